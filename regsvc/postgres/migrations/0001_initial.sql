-- Who confirmed an address. Nobody else is in here: a sign-up that was never confirmed leaves no user behind.
CREATE TABLE users (
    id                 uuid PRIMARY KEY,
    email              text NOT NULL,
    email_key          text NOT NULL CONSTRAINT users_email_key UNIQUE,  -- the address, case-folded: one account each
    name               text NOT NULL,
    locale             text NOT NULL DEFAULT 'en',
    role               text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    password_hash      text NOT NULL,
    version            integer NOT NULL DEFAULT 1,                       -- the entity tag of the profile
    created_at         timestamptz NOT NULL DEFAULT now(),
    email_confirmed_at timestamptz NOT NULL DEFAULT now(),
    disabled_at        timestamptz
);

-- Every POST of a sign-up is an attempt of its own, with its own password.
CREATE TABLE registrations (
    id            uuid PRIMARY KEY,
    email         text NOT NULL,
    email_key     text NOT NULL,
    name          text NOT NULL,
    locale        text NOT NULL,
    password_hash text,
    origin        text NOT NULL,                    -- the network prefix that the attempt came from
    client        text NOT NULL,                    -- a short word for the client's software
    state         text NOT NULL DEFAULT 'queued' CHECK (state IN (
                      'queued', 'sending', 'sent', 'delayed', 'bounced', 'confirmed', 'expired', 'repudiated')),
    seq           integer NOT NULL DEFAULT 1 CHECK (seq > 0),  -- rises with every change that a person can see
    attempts      integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_try_at   timestamptz,
    reason        text,
    code_tries    integer NOT NULL DEFAULT 0 CHECK (code_tries >= 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    changed_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,                      -- unknown until a mail server has accepted the mail
    CONSTRAINT registrations_delayed_has_next_try CHECK (state <> 'delayed' OR next_try_at IS NOT NULL),
    CONSTRAINT registrations_bounced_has_reason CHECK (state <> 'bounced' OR reason IS NOT NULL),
    -- What is over keeps no password.
    CONSTRAINT registrations_final_has_no_password CHECK (
        (state IN ('confirmed', 'expired', 'repudiated')) = (password_hash IS NULL))
);
CREATE INDEX registrations_live ON registrations (email_key)
    WHERE state NOT IN ('confirmed', 'expired', 'repudiated');
CREATE INDEX registrations_expiry ON registrations (expires_at)
    WHERE state NOT IN ('confirmed', 'expired', 'repudiated');
CREATE INDEX registrations_age ON registrations (created_at);

-- One row a mail. `due_at` is the one clock of its life: whoever finds it in the past may take the mail up.
--   queued    due now; while a message for it is on its way through the broker, due again when that is given up
--   sending   due when the lease of the one who sends it runs out
--   delayed   due at the next try
CREATE TABLE mails (
    id              uuid PRIMARY KEY,
    registration_id uuid NOT NULL REFERENCES registrations ON DELETE CASCADE,
    kind            text NOT NULL CHECK (kind IN ('signup')),                        -- what was asked for
    sent_as         text CHECK (sent_as IN ('confirm', 'account_exists')),           -- what it became
    state           text NOT NULL DEFAULT 'queued' CHECK (state IN (
                        'queued', 'sending', 'sent', 'delayed', 'bounced', 'cancelled', 'dead')),
    attempts        integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    due_at          timestamptz DEFAULT now(),
    published_at    timestamptz,
    lease           uuid,                           -- who sends it; a lost lease stops before the final dot
    reason          text,
    reply           text,                           -- the mail server's last words
    created_at      timestamptz NOT NULL DEFAULT now(),
    changed_at      timestamptz NOT NULL DEFAULT now(),
    sent_at         timestamptz,
    CONSTRAINT mails_open_is_due CHECK ((state IN ('queued', 'sending', 'delayed')) = (due_at IS NOT NULL)),
    CONSTRAINT mails_sending_has_lease CHECK ((state = 'sending') = (lease IS NOT NULL)),
    CONSTRAINT mails_sent_has_time CHECK ((state = 'sent') = (sent_at IS NOT NULL)),
    CONSTRAINT mails_failed_has_reason CHECK (state NOT IN ('delayed', 'bounced', 'dead') OR reason IS NOT NULL)
);
CREATE INDEX mails_due ON mails (due_at) WHERE state IN ('queued', 'sending', 'delayed');
CREATE INDEX mails_registration ON mails (registration_id, created_at);

-- A session is the family of refresh tokens that grew from one log-in.
CREATE TABLE sessions (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    origin       text NOT NULL,
    client       text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,              -- however often it is refreshed
    ended_at     timestamptz,
    ended_reason text,
    CONSTRAINT sessions_ended_has_reason CHECK ((ended_at IS NULL) = (ended_reason IS NULL))
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE refresh_tokens (
    token_hash bytea PRIMARY KEY,                   -- the token itself is nowhere
    session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

-- Keys that sign access tokens; the private half is sealed with a key derived from the service's secret.
CREATE TABLE signing_keys (
    kid        text PRIMARY KEY,
    public     bytea NOT NULL,
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);
