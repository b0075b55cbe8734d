-- Notices with a link that takes an account back, logins from new places, and logins with a mailed code.
ALTER TABLE mails
    ADD COLUMN about   text,                            -- what a security notice is about
    ADD COLUMN used_at timestamptz,                     -- when its link was used
    DROP CONSTRAINT mails_kind_check,
    ADD CONSTRAINT mails_kind_check CHECK (
        kind IN ('signup', 'resend', 'login', 'foreign', 'notice', 'security', 'forgot', 'email_change')) NOT VALID,
    DROP CONSTRAINT mails_sent_as_check,
    ADD CONSTRAINT mails_sent_as_check CHECK (sent_as IN (
        'confirm', 'account_exists', 'login_code', 'no_account', 'foreign_confirm', 'password_changed',
        'password_reset', 'password_reset_done', 'refresh_token_reused', 'new_login', 'security_changed',
        'email_change', 'email_moving', 'email_changed', 'email_undoing', 'email_taken')) NOT VALID,
    ADD CONSTRAINT mails_security_has_subject CHECK (
        kind <> 'security' OR (about IS NOT NULL AND user_id IS NOT NULL AND email IS NOT NULL
                               AND email_key IS NOT NULL AND registration_id IS NULL)) NOT VALID,
    ADD CONSTRAINT mails_login_has_attempt CHECK (
        kind <> 'login' OR (wanted IS NOT NULL AND email_key IS NOT NULL AND registration_id IS NULL)) NOT VALID;

-- An attempt to log in with a mailed code: `login_key` is the key of its address, and `email_key` is empty, so that
-- nothing about sign-ups finds it, in this program or in one before it. Its mails name it in `wanted`.
ALTER TABLE registrations ADD COLUMN login_key text;

-- Where each account was logged in to, for 90 days.
CREATE TABLE login_places (
    user_id  uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    place    text NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, place)
);
CREATE INDEX login_places_age ON login_places (last_at);

-- outside a transaction:
CREATE INDEX CONCURRENTLY IF NOT EXISTS registrations_logins ON registrations (login_key) WHERE login_key IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_logins ON mails (wanted, created_at) WHERE kind = 'login';
