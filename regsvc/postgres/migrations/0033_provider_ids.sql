-- A report that names a mail by the provider's id alone is attributed by it.
-- outside a transaction:
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_provider_id ON mails (provider_id) WHERE provider_id IS NOT NULL;
