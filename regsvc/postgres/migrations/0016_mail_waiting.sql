-- When the mail server recovers, the mails that waited for it are not updated, however many they are: each stores the
-- recovery that it waits for, and the breaker's row counts recoveries.
ALTER TABLE mail_breaker
    ADD COLUMN stage        text,                                -- stage of the SMTP session at which the server failed
    ADD COLUMN alike        jsonb NOT NULL DEFAULT '{}',         -- digests of recipients refused with the same reply
    ADD COLUMN recovered    bigint NOT NULL DEFAULT 0,           -- number of recoveries
    ADD COLUMN closed       bigint NOT NULL DEFAULT 0,           -- the recovery that closed the breaker last
    ADD COLUMN recovered_at timestamptz,
    ADD COLUMN releasing    boolean NOT NULL DEFAULT false,      -- mails released by the last recovery may still wait
    ADD COLUMN version      bigint NOT NULL DEFAULT 0;           -- of the row, for optimistic locking

ALTER TABLE mails
    ADD COLUMN waits   bigint,                                   -- the next recovery after this one makes it due
    ADD COLUMN refused boolean NOT NULL DEFAULT false;           -- refused by the server after the recipient was named

-- Each step of a mail or a registration leaves a dead row and dead index entries in front of the due rows: vacuum after
-- some thousands of them, not after a fifth of the table.
ALTER TABLE mails SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
                       autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE registrations SET (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
                               autovacuum_analyze_scale_factor = 0.02);

-- outside a transaction:
-- Held mails, best candidates for probing the server first. Empty while it works.
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_waiting ON mails (refused, changed_at)
    WHERE state = 'delayed' AND waits IS NOT NULL;
