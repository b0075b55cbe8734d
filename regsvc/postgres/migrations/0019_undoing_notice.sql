-- An email change is undone only a day after notifying the new address, if a mail to that address was used to choose a
-- password since.
ALTER TABLE address_moves
    ADD COLUMN proved_at     timestamptz,               -- when a mail to the new address was used to choose a password
    ADD COLUMN undo_asked_at timestamptz;
ALTER TABLE mails
    DROP CONSTRAINT mails_sent_as_check,
    ADD CONSTRAINT mails_sent_as_check CHECK (sent_as IN (
        'confirm', 'account_exists', 'foreign_confirm', 'password_changed', 'password_reset', 'password_reset_done',
        'refresh_token_reused', 'email_change', 'email_moving', 'email_changed', 'email_undoing', 'email_taken'))
        NOT VALID,
    DROP CONSTRAINT mails_notice_check,
    ADD CONSTRAINT mails_notice_check CHECK (notice IN (
        'password_changed', 'password_reset_done', 'refresh_token_reused', 'email_moving', 'email_changed',
        'email_undoing'))
        NOT VALID;
