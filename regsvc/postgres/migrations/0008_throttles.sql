-- Limits, by the generic cell rate algorithm: a row is one limit of one client, and says when it is as if nothing of it
-- had been used. What `key` stands for is hidden by a MAC. After a crash of the database limits start anew: nothing of
-- them is worth the time that it takes to write them to the log.
CREATE UNLOGGED TABLE throttles (
    key     bytea PRIMARY KEY,
    free_at timestamptz NOT NULL
);
CREATE INDEX throttles_age ON throttles (free_at);

-- Takes one permit of each limit, or none of any when one of them has none left. Returns, in the order of the limits,
-- the seconds for which each would be used up by this permit: more than its window has is too much. The rows are locked
-- in the order of their keys, whoever comes, so that no two calls wait for each other.
CREATE FUNCTION take_permits(keys bytea[], quotas integer[], windows integer[]) RETURNS SETOF double precision
LANGUAGE plpgsql AS $$
DECLARE
    wanted bytea;
    moment timestamptz;
BEGIN
    FOR wanted IN SELECT k FROM unnest(keys) AS k ORDER BY k LOOP
        INSERT INTO throttles AS t (key, free_at) VALUES (wanted, '-infinity')
        ON CONFLICT (key) DO UPDATE SET free_at = t.free_at;
    END LOOP;
    moment := clock_timestamp();
    RETURN QUERY
    WITH asked AS (
        SELECT place, key, window_,
               extract(epoch FROM greatest(t.free_at, moment) - moment)::float8 + window_::float8 / quota AS used
          FROM unnest(keys, quotas, windows) WITH ORDINALITY AS a (key, quota, window_, place)
          JOIN throttles t USING (key)
    ), taken AS (
        UPDATE throttles t SET free_at = moment + make_interval(secs => asked.used)
          FROM asked
         WHERE t.key = asked.key AND (SELECT bool_and(used <= window_) FROM asked)
    )
    SELECT used FROM asked ORDER BY place;
END
$$;

-- Log-ins that failed in a row, by address as typed; those of a client that succeeded before by address and client.
CREATE UNLOGGED TABLE login_failures (
    key      bytea PRIMARY KEY,
    failures integer NOT NULL CHECK (failures > 0),
    last_at  timestamptz NOT NULL
);
CREATE INDEX login_failures_age ON login_failures (last_at);

-- Clients, by address and network prefix, that logged in: no stranger's failures hold them up.
CREATE TABLE login_clients (
    key     bytea PRIMARY KEY,
    address bytea NOT NULL,
    last_at timestamptz NOT NULL
);
CREATE INDEX login_clients_address ON login_clients (address, last_at);
CREATE INDEX login_clients_age ON login_clients (last_at);
