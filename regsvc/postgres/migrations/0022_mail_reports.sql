-- What providers and receivers report about a mail after the mail server accepted it.
CREATE TABLE mail_reports (
    key         bytea PRIMARY KEY,                      -- digest of source and event: a repeated report is stored once
    mail_id     uuid NOT NULL REFERENCES mails ON DELETE CASCADE,
    source      text NOT NULL,
    event       text NOT NULL CHECK (event IN ('delivered', 'deferred', 'bounced', 'complained', 'failed')),
    kind        text CHECK (kind IN ('hard', 'soft', 'block')),
    reason      text,
    at          timestamptz NOT NULL,                   -- by the reporter's clock, which orders reports
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX mail_reports_mail ON mail_reports (mail_id, at);

-- The standing that follows from all reports of a mail.
ALTER TABLE mails
    ADD COLUMN report        text CHECK (report IN ('delivered', 'deferred', 'bounced', 'failed')),
    ADD COLUMN report_kind   text,
    ADD COLUMN report_reason text,
    ADD COLUMN reported_at   timestamptz;               -- when it became known here

ALTER TABLE registrations
    ADD COLUMN delivered_at timestamptz,
    ADD COLUMN bounce_kind  text CHECK (bounce_kind IN ('hard', 'soft', 'block')),
    DROP CONSTRAINT registrations_delayed_has_next_try,
    -- A receiver that delays an accepted mail does not say when it tries again.
    ADD CONSTRAINT registrations_delayed_has_next_try CHECK (
        state <> 'delayed' OR next_try_at IS NOT NULL OR expires_at IS NOT NULL) NOT VALID;

-- Facts that attempts without a mail of their own are shown after the usual delay, while nothing else was shown since.
CREATE TABLE registration_facts (
    registration_id uuid PRIMARY KEY REFERENCES registrations ON DELETE CASCADE,
    due_at          timestamptz NOT NULL,
    seq             integer NOT NULL,
    fact            text NOT NULL CHECK (fact IN ('delivered', 'bounced')),
    kind            text,
    reason          text,
    CONSTRAINT registration_facts_bounced_has_kind CHECK (fact <> 'bounced' OR (kind IS NOT NULL AND reason IS NOT NULL))
);
CREATE INDEX registration_facts_due ON registration_facts (due_at);

-- How mails to the large mail services fare: the share that is reported, and usual delays. Recomputed from a sample.
CREATE TABLE receiver_families (
    family        text PRIMARY KEY,
    mails         integer NOT NULL,
    reported      integer NOT NULL,
    delays        double precision[] NOT NULL DEFAULT '{}',  -- seconds from acceptance to a report of delivery
    bounce_delays double precision[] NOT NULL DEFAULT '{}',
    refreshed_at  timestamptz NOT NULL DEFAULT now()
);

-- Addresses that receive no sign-up mail for a while. `key` is a MAC of the address, `secret` names the MAC's key.
CREATE TABLE suppressions (
    id               uuid PRIMARY KEY,
    key              bytea NOT NULL UNIQUE,
    secret           text NOT NULL,
    family           text NOT NULL,
    bounces          integer NOT NULL DEFAULT 0 CHECK (bounces >= 0),
    bounced_at       timestamptz,
    bounced_until    timestamptz,
    kind             text,
    reason           text,
    complained_at    timestamptz,
    complained_until timestamptz,
    passed           jsonb NOT NULL DEFAULT '{}',        -- when the last mail of each kind went in spite of it
    created_at       timestamptz NOT NULL DEFAULT now(),
    changed_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX suppressions_age ON suppressions (changed_at, id);

-- A resend by the owner of the handle goes once a day to an address that bounced.
ALTER TABLE mails ADD COLUMN insists boolean NOT NULL DEFAULT false;

-- Tokens of signed reports, each of which counts once.
CREATE TABLE feedback_tokens (
    token   bytea PRIMARY KEY,
    body    bytea NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX feedback_tokens_age ON feedback_tokens (used_at);

-- Position in a bounce mailbox, and the process that reads it.
CREATE TABLE feedback_mailboxes (
    mailbox       text PRIMARY KEY,
    uid_validity  bigint NOT NULL DEFAULT 0,
    last_uid      bigint NOT NULL DEFAULT 0,
    lease         uuid,
    leased_until  timestamptz
);
