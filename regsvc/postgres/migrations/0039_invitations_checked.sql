-- Separate from the previous migration, so that mails can be read and written while their rows are checked.
ALTER TABLE mails VALIDATE CONSTRAINT mails_kind_check;
ALTER TABLE mails VALIDATE CONSTRAINT mails_sent_as_check;
ALTER TABLE mails VALIDATE CONSTRAINT mails_invitation_has_address;
