-- Queries read only the rows that they return, in the order of an index. Lists for administrators are ordered by time
-- under every filter, so each of their indexes ends in that order.

-- A session counts its refresh tokens instead of storing each: a token is the session, a number and a MAC. Only the
-- last one issued is valid. `refresh_tokens` keeps the older ones until their sessions are deleted.
ALTER TABLE sessions
    ADD COLUMN refresh_count integer NOT NULL DEFAULT 0,  -- number of the valid token
    ADD COLUMN refreshed_at  timestamptz,                 -- when it was issued; null: at login
    ADD COLUMN refresh_pace  timestamptz;                 -- rate limit of refreshes of a session
-- A refresh updates no indexed column. Free space on the page (HOT updates) keeps it off the indexes.
ALTER TABLE sessions SET (fillfactor = 80);

-- As before, but checks first: a refused request writes nothing and waits for no lock.
CREATE OR REPLACE FUNCTION take_permits(keys bytea[], quotas integer[], windows integer[])
RETURNS SETOF double precision LANGUAGE plpgsql AS $$
DECLARE
    wanted bytea;
    moment timestamptz := clock_timestamp();
    refused boolean;
BEGIN
    SELECT coalesce(bool_or(t.free_at > moment + make_interval(secs => window_ - window_::float8 / quota)), false)
      INTO refused
      FROM unnest(keys, quotas, windows) AS a (key, quota, window_)
      JOIN throttles t USING (key);
    IF NOT refused THEN
        FOR wanted IN SELECT k FROM unnest(keys) AS k ORDER BY k LOOP
            INSERT INTO throttles AS t (key, free_at) VALUES (wanted, '-infinity')
            ON CONFLICT (key) DO UPDATE SET free_at = t.free_at;
        END LOOP;
        moment := clock_timestamp();
    END IF;
    RETURN QUERY
    WITH asked AS (
        SELECT place, key, window_,
               extract(epoch FROM greatest(t.free_at, moment) - moment)::float8 + window_::float8 / quota AS used
          FROM unnest(keys, quotas, windows) WITH ORDINALITY AS a (key, quota, window_, place)
          LEFT JOIN throttles t USING (key)
    ), taken AS (
        UPDATE throttles t SET free_at = moment + make_interval(secs => asked.used)
          FROM asked
         WHERE NOT refused AND t.key = asked.key AND (SELECT bool_and(used <= window_) FROM asked)
    )
    SELECT used FROM asked ORDER BY place;
END
$$;

-- outside a transaction:
-- Attempts without an accepted mail; `registrations_expiry` finds the others.
CREATE INDEX CONCURRENTLY IF NOT EXISTS registrations_unsent ON registrations (created_at)
    WHERE expires_at IS NULL AND state NOT IN ('confirmed', 'expired', 'repudiated');
CREATE INDEX CONCURRENTLY IF NOT EXISTS registrations_listed ON registrations (state, created_at, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS mails_listed ON mails (kind, state, created_at, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS users_listed ON users (role, (disabled_at IS NOT NULL), created_at, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS code_tries_age ON code_tries (since);
-- Schedules kept for 30 days must not come before those to be deleted.
CREATE INDEX CONCURRENTLY IF NOT EXISTS mail_schedules_usual ON mail_schedules (last_at) WHERE quiet_until IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS mail_schedules_quiet ON mail_schedules (quiet_until) WHERE quiet_until IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS mail_schedules_age;

-- The audit log by time. Each index replaces one that was ordered by id.
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_events_time ON audit_events (at, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_events_listed ON audit_events (event, actor, at, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_events_doer ON audit_events (actor, at, id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_events_subject ON audit_events (user_id, at, id) WHERE user_id IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS audit_events_person ON audit_events (actor_id, at, id) WHERE actor_id IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS audit_events_at;
DROP INDEX CONCURRENTLY IF EXISTS audit_events_event;
DROP INDEX CONCURRENTLY IF EXISTS audit_events_by_hand;
DROP INDEX CONCURRENTLY IF EXISTS audit_events_user;
DROP INDEX CONCURRENTLY IF EXISTS audit_events_actor;
