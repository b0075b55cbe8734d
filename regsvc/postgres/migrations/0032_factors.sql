-- The authenticator app of a user (RFC 6238): its secret, sealed; `sealed_with` names the key of the seal.
CREATE TABLE totp_authenticators (
    user_id     uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    sealed      bytea NOT NULL,
    sealed_with text NOT NULL,
    last_step   bigint NOT NULL,                    -- of the newest code that was taken: each is taken once
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- A secret that waits for the first code of its app; only the session that asked for it sees it.
CREATE TABLE totp_setups (
    user_id     uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    session_id  uuid NOT NULL,
    sealed      bytea NOT NULL,
    sealed_with text NOT NULL,
    expires_at  timestamptz NOT NULL
);
CREATE INDEX totp_setups_expiry ON totp_setups (expires_at);

-- The key of a user's recovery codes, sealed. A key of their own lets the codes outlive the service's secret.
CREATE TABLE recovery_keys (
    user_id     uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    sealed      bytea NOT NULL,
    sealed_with text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- MACs of the codes that are left; a used one is deleted.
CREATE TABLE recovery_codes (
    user_id uuid NOT NULL REFERENCES recovery_keys ON DELETE CASCADE,
    mac     bytea NOT NULL,
    PRIMARY KEY (user_id, mac)
);

-- Logins whose first step has passed and whose second factor is awaited. The token itself is nowhere.
CREATE TABLE pending_logins (
    token_hash      bytea PRIMARY KEY,
    user_id         uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    password_digest bytea NOT NULL,                 -- of the hash at the first step: another password ends the login
    amr             text[] NOT NULL,                -- what the first step proved (RFC 8176)
    tries           integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    expires_at      timestamptz NOT NULL,
    attempt         jsonb                           -- the counted login attempt, to be forgiven
);
CREATE INDEX pending_logins_user ON pending_logins (user_id);
CREATE INDEX pending_logins_expiry ON pending_logins (expires_at);

-- Wrong factors of the last day, by user.
CREATE TABLE factor_guesses (
    user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    made_at timestamptz[] NOT NULL,
    last_at timestamptz NOT NULL
);
CREATE INDEX factor_guesses_last ON factor_guesses (last_at);

ALTER TABLE sessions
    ADD COLUMN amr          text[] NOT NULL DEFAULT '{pwd}',  -- how the user authenticated (RFC 8176)
    ADD COLUMN auth_time    timestamptz,                      -- when; unknown before this column: at the login
    ADD COLUMN proved_until timestamptz;                      -- until then, changes need no further proof
