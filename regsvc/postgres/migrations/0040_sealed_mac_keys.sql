-- Keys of MACs that must outlive rotations of the service's secret: random, sealed with it.
CREATE TABLE mac_keys (
    name        text PRIMARY KEY,
    sealed      bytea NOT NULL,
    sealed_with text NOT NULL,                                   -- fingerprint of the secret
    created_at  timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE smtp_tokens ADD COLUMN sealed_with text NOT NULL DEFAULT '';
