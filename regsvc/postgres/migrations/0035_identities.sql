-- Ways in by an identity provider: who the provider says a person is, by its issuer and its id for them.
CREATE TABLE identities (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    provider     text NOT NULL,                     -- its name in the settings when it was added
    issuer       text NOT NULL CHECK (length(issuer) BETWEEN 1 AND 512),
    subject      text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    email        text NOT NULL DEFAULT '',          -- as the provider had it last; for showing, never for finding
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    CONSTRAINT identities_subject UNIQUE (issuer, subject)
);
CREATE INDEX identities_user ON identities (user_id, created_at);

-- An attempt to sign up that a provider sent: the identity becomes the user's when the mail is confirmed.
CREATE TABLE registration_identities (
    registration_id uuid PRIMARY KEY REFERENCES registrations ON DELETE CASCADE,
    provider        text NOT NULL,
    issuer          text NOT NULL CHECK (length(issuer) BETWEEN 1 AND 512),
    subject         text NOT NULL CHECK (length(subject) BETWEEN 1 AND 255),
    email           text NOT NULL DEFAULT ''
);

-- What another client, such as an app, exchanges for tokens: once, within a minute. The code itself is nowhere.
CREATE TABLE identity_codes (
    code_hash      bytea PRIMARY KEY,
    code_challenge text NOT NULL,
    provider       text NOT NULL,
    issuer         text NOT NULL,
    subject        text NOT NULL,
    email          text NOT NULL,
    trust          text NOT NULL CHECK (trust IN ('authoritative', 'verified', 'claimed')),
    name           text NOT NULL,
    expires_at     timestamptz NOT NULL
);
CREATE INDEX identity_codes_expiry ON identity_codes (expires_at);
