-- When the next mail may be asked for (by a client) or sent (to an address). What `key` stands for is hashed.
CREATE TABLE mail_schedules (
    key         bytea PRIMARY KEY,
    sent        integer NOT NULL CHECK (sent >= 0),
    last_at     timestamptz NOT NULL,
    quiet_until timestamptz                             -- somebody said "this was not me"
);
CREATE INDEX mail_schedules_age ON mail_schedules (last_at);

-- Tries of six-digit codes by address, over all its registrations.
CREATE TABLE code_tries (
    key   bytea PRIMARY KEY,
    tries integer NOT NULL CHECK (tries > 0),
    since timestamptz NOT NULL DEFAULT now()
);

-- A mail may be asked for by address alone; whom it is for is decided when it is taken in hand.
ALTER TABLE mails
    ALTER COLUMN registration_id DROP NOT NULL,
    ADD COLUMN email_key text,
    ADD COLUMN wanted    uuid,                                 -- the registration whose handle was shown
    ADD COLUMN admitted  boolean NOT NULL DEFAULT false,       -- the address's schedule let it through
    ADD COLUMN silent    boolean NOT NULL DEFAULT false,       -- its registration has walked on; nothing is shown
    DROP CONSTRAINT mails_kind_check,
    ADD CONSTRAINT mails_kind_check CHECK (kind IN ('signup', 'resend')),
    ADD CONSTRAINT mails_resend_has_address CHECK (kind <> 'resend' OR email_key IS NOT NULL);

-- Codes of mails that went to an earlier address are dead.
ALTER TABLE registrations ADD COLUMN address_since timestamptz NOT NULL DEFAULT now();
