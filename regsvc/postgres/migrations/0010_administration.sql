-- An operator's lists of users: all, newest first; and by what an address or a name begins with.
CREATE INDEX users_age ON users (created_at, id);
CREATE INDEX users_email_prefix ON users (email_key text_pattern_ops);
CREATE INDEX users_name_prefix ON users (lower(name) text_pattern_ops);
-- Whoever is disabled, deleted or demoted must not have been the last of them.
CREATE INDEX users_admins ON users (id) WHERE role = 'admin';

-- What somebody did, whomever it was about.
CREATE INDEX audit_events_actor ON audit_events (actor_id, id) WHERE actor_id IS NOT NULL;

-- A key is published before it signs, so that whoever keeps the published keys for a while has it by then; and it
-- signs until it is retired, which is known in advance when another one is to follow.
ALTER TABLE signing_keys ADD COLUMN signs_from timestamptz;
UPDATE signing_keys SET signs_from = created_at;
ALTER TABLE signing_keys ALTER COLUMN signs_from SET NOT NULL, ALTER COLUMN signs_from SET DEFAULT now();
