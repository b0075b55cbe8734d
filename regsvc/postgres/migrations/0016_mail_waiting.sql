-- When the mail server works again nothing is written to the mails that waited for it, however many they are: each says
-- behind which recovery it waits, and the breaker's row counts recoveries.
ALTER TABLE mail_breaker
    ADD COLUMN stage        text,                                -- of the conversation, at which the server failed
    ADD COLUMN alike        jsonb NOT NULL DEFAULT '{}',         -- digests of recipients refused in the same words
    ADD COLUMN recovered    bigint NOT NULL DEFAULT 0,           -- how often the server has recovered
    ADD COLUMN closed       bigint NOT NULL DEFAULT 0,           -- the recovery that closed the breaker last
    ADD COLUMN recovered_at timestamptz,
    ADD COLUMN releasing    boolean NOT NULL DEFAULT false,      -- mails may wait that the last recovery released
    ADD COLUMN version      bigint NOT NULL DEFAULT 0;           -- of the row: who changes it must have read it

ALTER TABLE mails
    ADD COLUMN waits   bigint,                                   -- the recovery after which the next makes it due
    ADD COLUMN refused boolean NOT NULL DEFAULT false;           -- it failed itself, where its recipient was known

-- Each step of a mail or a registration leaves a dead row and dead index entries in front of what is due: they are
-- cleared away when there are some thousands, not when they are a fifth of all that is kept.
ALTER TABLE mails SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
                       autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE registrations SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
                               autovacuum_analyze_scale_factor = 0.02);

-- outside a transaction:
-- Held mails, those first that find out best whether the server is back. Empty while it works.
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_waiting ON mails (refused, changed_at)
    WHERE state = 'delayed' AND waits IS NOT NULL;
