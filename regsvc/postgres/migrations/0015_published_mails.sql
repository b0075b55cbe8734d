-- outside a transaction:
-- Mails that were published to the broker, by the time they are due again: searched in batches after the broker lost its
-- messages or is no longer configured. Empty without a broker.
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_published ON mails (due_at) WHERE state = 'queued' AND published_at IS NOT NULL;
