-- Apart from the migration before, so that mails are read and written while their rows are looked through.
ALTER TABLE mails VALIDATE CONSTRAINT mails_sent_as_check;
ALTER TABLE mails VALIDATE CONSTRAINT mails_notice_check;
