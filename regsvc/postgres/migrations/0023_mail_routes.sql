-- Several ways out for mail, each with a circuit breaker of its own: `mail_breaker` goes on to say whether any is open.
CREATE TABLE mail_routes (
    name       text PRIMARY KEY,
    open       boolean NOT NULL DEFAULT false,
    failures   integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    reason     text,
    reply      text,
    stage      text,
    alike      jsonb NOT NULL DEFAULT '{}',
    opened_at  timestamptz,
    changed_at timestamptz NOT NULL DEFAULT now(),
    version    bigint NOT NULL DEFAULT 0
);

-- By which way a mail was accepted, or may have been: while `ambiguous_at` is young, it is tried there alone. The
-- provider's id is what its reports name.
ALTER TABLE mails
    ADD COLUMN route text,
    ADD COLUMN provider_id text,
    ADD COLUMN ambiguous_at timestamptz;
ALTER TABLE mail_attempts ADD COLUMN route text;

-- Families of receivers that throttle us, or domains without a family: few rows, gone once they take mail again.
CREATE TABLE mail_families (
    family     text PRIMARY KEY,
    held_until timestamptz NOT NULL,
    probe_at   timestamptz NOT NULL
);

-- The access token of XOAUTH2, sealed: one row, renewed by the process that has the lease.
CREATE TABLE smtp_tokens (
    id           smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    sealed       bytea,
    expires_at   timestamptz,
    renew_at     timestamptz NOT NULL DEFAULT 'epoch',  -- three quarters of its life
    leased_until timestamptz NOT NULL DEFAULT 'epoch',
    problem      text,
    refused      boolean NOT NULL DEFAULT false
);
INSERT INTO smtp_tokens DEFAULT VALUES;
