-- Passkeys (Web Authentication credentials) of users. The user handle that authenticators keep is the user's id.
CREATE TABLE passkeys (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    credential_id bytea NOT NULL CONSTRAINT passkeys_credential_id UNIQUE
                  CHECK (length(credential_id) BETWEEN 1 AND 1023),
    public_key    bytea NOT NULL,                   -- a COSE key (RFC 9052)
    sign_count    bigint NOT NULL CHECK (sign_count >= 0),
    synced        boolean NOT NULL,                 -- its authenticator may copy it to other devices
    transports    text[] NOT NULL,                  -- a hint for browsers
    name          text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_used_at  timestamptz
);
CREATE INDEX passkeys_user ON passkeys (user_id, created_at, id);

-- The passkey of a sign-up without a password, whose `password_hash` matches no password. `user_id` is what the user
-- will have. A program that does not know this table activates such a sign-up without any credential; its owner then
-- chooses a password by a link that is mailed.
CREATE TABLE registration_passkeys (
    registration_id uuid PRIMARY KEY REFERENCES registrations ON DELETE CASCADE,
    user_id         uuid NOT NULL,
    credential_id   bytea NOT NULL CHECK (length(credential_id) BETWEEN 1 AND 1023),
    public_key      bytea NOT NULL,
    sign_count      bigint NOT NULL CHECK (sign_count >= 0),
    synced          boolean NOT NULL,
    transports      text[] NOT NULL,
    name            text NOT NULL
);
CREATE INDEX registration_passkeys_credential ON registration_passkeys (credential_id);

-- Challenges that wait for their answer, each for one use. After a crash of the database they are gone, and clients
-- ask for new ones.
CREATE UNLOGGED TABLE passkey_challenges (
    challenge  bytea PRIMARY KEY,
    purpose    text NOT NULL,
    user_id    uuid,                                -- whose answer it takes, or who will be the user
    expires_at timestamptz NOT NULL
);
CREATE INDEX passkey_challenges_age ON passkey_challenges (expires_at);
