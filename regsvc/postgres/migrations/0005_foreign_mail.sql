-- Mails that the system this one replaces asks for. They have no registration: whom they go to and the token of their
-- link stand in the row. The token is sealed, and is there only while the mail may have to be sent: once that has ended
-- it is gone, but for a mail that was given up, which an operator may give a new life.
ALTER TABLE mails
    ADD COLUMN email         text,                             -- as it is written to
    ADD COLUMN foreign_token bytea,
    DROP CONSTRAINT mails_kind_check,
    ADD CONSTRAINT mails_kind_check CHECK (kind IN ('signup', 'resend', 'foreign')),
    DROP CONSTRAINT mails_sent_as_check,
    ADD CONSTRAINT mails_sent_as_check CHECK (sent_as IN ('confirm', 'account_exists', 'foreign_confirm')),
    ADD CONSTRAINT mails_foreign_has_address CHECK (
        kind <> 'foreign' OR (email IS NOT NULL AND email_key IS NOT NULL AND registration_id IS NULL)),
    ADD CONSTRAINT mails_foreign_has_token_while_needed CHECK (
        (kind = 'foreign' AND state IN ('queued', 'sending', 'delayed', 'dead')) = (foreign_token IS NOT NULL));

-- Mails of no registration go with none: they are deleted by their own age.
CREATE INDEX mails_nobodys ON mails (changed_at) WHERE registration_id IS NULL AND due_at IS NULL;
