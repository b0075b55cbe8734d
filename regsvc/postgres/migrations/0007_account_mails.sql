-- Moves of an account to another address. The new address confirms by a link, then the old one is told and may undo it
-- by another; what a link proves is derived, and only how the move stands is kept.
CREATE TABLE address_moves (
    id        uuid PRIMARY KEY,
    user_id   uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    old_email text NOT NULL,
    old_key   text NOT NULL,
    new_email text NOT NULL,
    new_key   text NOT NULL,
    state     text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'done', 'undone', 'void')),
    asked_at  timestamptz NOT NULL DEFAULT now(),
    done_at   timestamptz,
    CONSTRAINT address_moves_done_has_time CHECK (state NOT IN ('done', 'undone') OR done_at IS NOT NULL)
);
CREATE INDEX address_moves_user ON address_moves (user_id, asked_at);
CREATE INDEX address_moves_age ON address_moves (asked_at);

-- Mails about an account: a notice of what happened to it, a link that somebody asked for by address alone ("I forgot my
-- password"; whose account it is, if anybody's, is decided when the mail is taken in hand), and the link of a move. Their
-- row says whom they go to, and from where and with what that came which they tell of.
ALTER TABLE mails
    ADD COLUMN user_id uuid REFERENCES users ON DELETE CASCADE,
    ADD COLUMN move_id uuid REFERENCES address_moves ON DELETE CASCADE,
    ADD COLUMN notice  text,
    ADD COLUMN origin  text,
    ADD COLUMN client  text,
    DROP CONSTRAINT mails_kind_check,
    ADD CONSTRAINT mails_kind_check CHECK (
        kind IN ('signup', 'resend', 'foreign', 'notice', 'forgot', 'email_change')),
    DROP CONSTRAINT mails_sent_as_check,
    ADD CONSTRAINT mails_sent_as_check CHECK (sent_as IN (
        'confirm', 'account_exists', 'foreign_confirm', 'password_changed', 'password_reset', 'password_reset_done',
        'refresh_token_reused', 'email_change', 'email_changed', 'email_taken')),
    ADD CONSTRAINT mails_notice_check CHECK (
        notice IN ('password_changed', 'password_reset_done', 'refresh_token_reused', 'email_changed')),
    ADD CONSTRAINT mails_notice_has_word CHECK ((kind = 'notice') = (notice IS NOT NULL)),
    ADD CONSTRAINT mails_of_account_has_address CHECK (
        kind NOT IN ('notice', 'email_change')
        OR (user_id IS NOT NULL AND email IS NOT NULL AND email_key IS NOT NULL AND registration_id IS NULL)),
    ADD CONSTRAINT mails_forgot_has_address CHECK (
        kind <> 'forgot' OR (email_key IS NOT NULL AND registration_id IS NULL)),
    ADD CONSTRAINT mails_of_move_has_move CHECK (
        (kind = 'email_change' OR notice IS NOT DISTINCT FROM 'email_changed') = (move_id IS NOT NULL));

-- Deleted with their account.
CREATE INDEX mails_user ON mails (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX mails_move ON mails (move_id) WHERE move_id IS NOT NULL;
