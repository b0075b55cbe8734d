-- By which secrets values are sealed is found by an index alone: each process looks at its start.
-- outside a transaction:
CREATE INDEX CONCURRENTLY IF NOT EXISTS totp_authenticators_sealed_with ON totp_authenticators (sealed_with);
CREATE INDEX CONCURRENTLY IF NOT EXISTS totp_setups_sealed_with ON totp_setups (sealed_with);
CREATE INDEX CONCURRENTLY IF NOT EXISTS recovery_keys_sealed_with ON recovery_keys (sealed_with);
