-- Clients that wait for a mail have it sent first. A row is a lease that the process with the websocket or poll renews;
-- what a crash loses is written again within seconds.
CREATE UNLOGGED TABLE mail_watches (
    mail_id    uuid PRIMARY KEY,
    origin     text NOT NULL,                           -- network of the client, of whose mails only a few count
    created_at timestamptz NOT NULL,                    -- of the mail: the newest comes first
    until      timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- outside a transaction:
-- First tries, newest first: what a person asked for, and notices after it; apart from those that the broker holds.
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_first ON mails (created_at)
    WHERE state = 'queued' AND published_at IS NULL AND kind NOT IN ('notice', 'security');
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_first_published ON mails (created_at)
    WHERE state = 'queued' AND published_at IS NOT NULL AND kind NOT IN ('notice', 'security');
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_notices ON mails (created_at)
    WHERE state = 'queued' AND published_at IS NULL AND kind IN ('notice', 'security');
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_notices_published ON mails (created_at)
    WHERE state = 'queued' AND published_at IS NOT NULL AND kind IN ('notice', 'security');
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_delayed ON mails (due_at) WHERE state = 'delayed';
