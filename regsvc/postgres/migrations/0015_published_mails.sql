-- outside a transaction:
-- What the broker should have, by when it is due again: looked through in batches when the broker lost it, and when it
-- is gone. Empty where there is no broker.
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_published ON mails (due_at) WHERE state = 'queued' AND published_at IS NOT NULL;
