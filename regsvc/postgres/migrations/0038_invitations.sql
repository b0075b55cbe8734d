-- Invitations. The link is derived; how the mail stands is in the mail's row.
CREATE TABLE invitations (
    id          uuid PRIMARY KEY,
    mail_id     uuid NOT NULL UNIQUE,
    email       text NOT NULL,
    email_key   text NOT NULL,
    locale      text NOT NULL,
    invited_by  uuid,                               -- an administrator or a service; NULL: at the command line
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    accepted_at timestamptz,
    revoked_at  timestamptz,
    CONSTRAINT invitations_end_once CHECK (accepted_at IS NULL OR revoked_at IS NULL)
);
CREATE UNIQUE INDEX invitations_pending ON invitations (email_key) WHERE accepted_at IS NULL AND revoked_at IS NULL;
CREATE INDEX invitations_address ON invitations (email_key, created_at);
CREATE INDEX invitations_age ON invitations (created_at, id);

-- The address at which an attempt can no longer become the user: an invitation to it was accepted. Nothing is shown.
ALTER TABLE registrations ADD COLUMN ended_key text;

ALTER TABLE mails
    DROP CONSTRAINT mails_kind_check,
    ADD CONSTRAINT mails_kind_check CHECK (
        kind IN ('signup', 'resend', 'invitation', 'login', 'foreign', 'notice', 'security', 'forgot', 'email_change'))
        NOT VALID,
    DROP CONSTRAINT mails_sent_as_check,
    ADD CONSTRAINT mails_sent_as_check CHECK (sent_as IN (
        'confirm', 'account_exists', 'invitation', 'login_code', 'no_account', 'foreign_confirm', 'password_changed',
        'password_reset', 'password_reset_done', 'refresh_token_reused', 'new_login', 'security_changed',
        'email_change', 'email_moving', 'email_changed', 'email_undoing', 'email_taken')) NOT VALID,
    ADD CONSTRAINT mails_invitation_has_address CHECK (
        kind <> 'invitation' OR (email IS NOT NULL AND email_key IS NOT NULL AND registration_id IS NULL)) NOT VALID;

-- outside a transaction:
-- Mails that a worker of an older program, which knows no invitations, cancelled: very few.
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_lost_invitations ON mails (id)
    WHERE kind = 'invitation' AND state = 'cancelled' AND reason = 'registration_over';
