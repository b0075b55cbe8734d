-- Tokens by which other services call the API in their own name.
CREATE TABLE service_tokens (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name         text NOT NULL,
    digest       bytea NOT NULL UNIQUE,                -- SHA-256 of the token: 256 random bits need no slow hash
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,                          -- to the hour
    revoked_at   timestamptz
);

-- They act in the audit log like a person, by their id.
ALTER TABLE audit_events
    DROP CONSTRAINT audit_events_person_has_id,
    DROP CONSTRAINT audit_events_actor_check,
    ADD CONSTRAINT audit_events_actor_known
        CHECK (actor IN ('user', 'admin', 'operator', 'anonymous', 'service', 'service_token')) NOT VALID,
    ADD CONSTRAINT audit_events_actor_has_id
        CHECK ((actor IN ('user', 'admin', 'service_token')) = (actor_id IS NOT NULL)) NOT VALID;
