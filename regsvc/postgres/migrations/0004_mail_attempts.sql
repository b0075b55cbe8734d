-- Tries of mails that their rows do not tell: those that failed, and an acceptance before a replay. The acceptance
-- that ends nearly every mail at its first try is the row itself, so that the usual way writes nothing here.
CREATE TABLE mail_attempts (
    mail_id  uuid NOT NULL REFERENCES mails ON DELETE CASCADE,
    tried_at timestamptz NOT NULL DEFAULT now(),
    attempt  integer NOT NULL CHECK (attempt >= 0),     -- counted anew after a replay
    outcome  text NOT NULL CHECK (outcome IN ('sent', 'delayed', 'bounced', 'dead')),
    stage    text,                                      -- of the conversation with the mail server
    reason   text,
    reply    text,
    PRIMARY KEY (mail_id, tried_at),
    CONSTRAINT mail_attempts_failed_has_reason CHECK (outcome = 'sent' OR reason IS NOT NULL)
);

-- When an operator gave the mail a new life: what counts from its age counts from here.
ALTER TABLE mails ADD COLUMN replayed_at timestamptz;

-- An operator's lists: all, newest first; what went wrong by its state; those of one address. Those of registrations
-- that live are found by `registrations_live`. Indexes of what the usual way never enters cost it nothing.
CREATE INDEX mails_age ON mails (created_at, id);
CREATE INDEX mails_troubled ON mails (state, created_at, id)
    WHERE state IN ('delayed', 'bounced', 'cancelled', 'dead');
CREATE INDEX mails_address ON mails (email_key) WHERE email_key IS NOT NULL;
CREATE INDEX registrations_over ON registrations (email_key)
    WHERE state IN ('confirmed', 'expired', 'repudiated');
