-- Keys of more than one algorithm. A release before this one reads only EdDSA: it must be gone before ES256 is chosen.
ALTER TABLE signing_keys ADD COLUMN algorithm text NOT NULL DEFAULT 'EdDSA' CHECK (algorithm IN ('EdDSA', 'ES256'));
