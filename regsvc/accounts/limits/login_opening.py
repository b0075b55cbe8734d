"""Open a login attempt: count it before the password is checked, and look the account up, all in one statement.

The limits of the client count the attempt first. If one of them has no permit left, nothing else is counted. Then it is
counted among the attempts that failed (`regsvc.accounts.limits.login_attempts`), unless these have to wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import tuple_row

from regsvc.accounts.limits.login_attempts import DAY, KEEP_CLIENTS, LABEL, LoginTry, Place
from regsvc.accounts.limits.rate_limit import Demand, RateLimitedError, Standing, find_standings
from regsvc.accounts.users.user import CREDENTIALS, Credentials
from regsvc.postgres.connection import Connection
from regsvc.postgres.query import (
    BYTEA,
    BYTEA_ARRAY,
    INTEGER_ARRAY,
    TEXT,
    Query,
    or_null,
    read_boolean,
    read_bytes,
    read_double,
    read_text,
    read_timestamp,
    read_uuid,
    write_array,
    write_byte_array,
    write_bytes,
)
from regsvc.security.tokens import Secrets, blinds

FREE = 10  # consecutive failures without a wait
LIMIT = "login-failures"

# 30 s after 10 failures, a minute after 11, an hour after 17 or more; none after a quiet day.
_WAIT = f"""
    CASE WHEN f.failures < {FREE} OR f.last_at <= now() - {DAY} THEN interval '0'
         ELSE least(interval '30 seconds' * 2 ^ least(f.failures - {FREE}, 7), interval '1 hour')
    END
"""
# Which row counts an attempt: the client's if known, else its network's if known, else the one of all strangers.
_COUNTED = f"""
    SELECT coalesce((SELECT c.key FROM login_clients c
                      WHERE c.key = ANY({{clients}}) AND c.last_at > now() - interval '{KEEP_CLIENTS.days} days'
                      LIMIT 1),
                    (SELECT c.key FROM login_clients c
                      WHERE c.key = ANY({{networks}}) AND c.last_at > now() - interval '{KEEP_CLIENTS.days} days'
                      LIMIT 1),
                    {{address}}) AS key
"""  # noqa: S608 - constants of this module
_OPEN = Query(
    f"""
    WITH permits AS MATERIALIZED (
        SELECT place, used, seconds
          FROM ROWS FROM (take_permits($1, $2, $3), unnest($3)) WITH ORDINALITY AS p (used, seconds, place)
    ), counted AS MATERIALIZED (
        {_COUNTED.format(clients="$4", networks="$5", address="$6")}
         WHERE NOT EXISTS (SELECT FROM permits WHERE used > seconds)
    ), tried AS (
        INSERT INTO login_failures AS f (key, failures, last_at)
        SELECT key, 1, now() FROM counted
         -- Look first: even an update that changes nothing locks the row, which is a write.
         WHERE NOT EXISTS (SELECT FROM login_failures f
                            WHERE f.key = counted.key AND f.last_at + {_WAIT} > now())
        ON CONFLICT (key) DO UPDATE
           SET failures = CASE WHEN f.last_at <= now() - {DAY} THEN 1 ELSE f.failures + 1 END,
               last_at = now()
         WHERE {_WAIT} = interval '0' OR f.last_at + {_WAIT} <= now()
        RETURNING key, last_at, (SELECT b.last_at FROM login_failures b JOIN counted USING (key)) AS before
    )
    SELECT permits.used, tried.key, tried.last_at, tried.before, found.*
      FROM (SELECT) AS one
      LEFT JOIN permits ON true
      LEFT JOIN tried ON true
      LEFT JOIN (SELECT {CREDENTIALS} FROM users u WHERE u.email_key = $7 AND u.disabled_at IS NULL) AS found ON true
     ORDER BY permits.place
    """,  # noqa: S608 - constants
    [BYTEA_ARRAY, INTEGER_ARRAY, INTEGER_ARRAY, BYTEA_ARRAY, BYTEA_ARRAY, BYTEA, TEXT],
    [
        or_null(read_double),
        read_bytes,
        or_null(read_timestamp),
        or_null(read_timestamp),
        or_null(read_uuid),
        read_text,
        read_text,
        read_text,
        read_boolean,
    ],
)


@dataclass(frozen=True)
class OpenedLogin:
    """A login attempt that has begun.

    Args:
        tried: the attempt as it was counted; None where no limits apply.
        credentials: of the active user at the address; None if there is none.
        standings: how the client stands with its limits.
    """

    tried: LoginTry | None
    credentials: Credentials | None
    standings: Sequence[Standing] = ()


async def open_login(
    conn: Connection, secrets: Secrets, demands: Sequence[Demand], address: str, place: Place
) -> OpenedLogin:
    """Count a login attempt before the password is checked, and find the account.

    Args:
        conn: not in a transaction: the attempt counts whatever follows.
        secrets: derive the keys.
        demands: for a permit of each limit of the client.
        address: the address as typed.
        place: origin of the attempt.

    Raises:
        RateLimitedError: a limit of the client has no permit left, and nothing was counted; or, with `LIMIT` as its
            limit, too many attempts have failed, and this one is not counted among them.
    """
    addresses = blinds(secrets, LABEL, "address", address)
    clients, networks = place.client_keys(secrets, address), place.network_keys(secrets, address)
    rows = await _OPEN.execute(
        conn,
        write_byte_array(it.key for it in demands),
        write_array([it.limit.quota for it in demands]),
        write_array([it.limit.seconds for it in demands]),
        write_byte_array(clients),
        write_byte_array(networks),
        write_bytes(addresses[0]),
        address.encode(),
    )
    standings = find_standings(demands, [row[0] for row in rows[: len(demands)]])
    _, key, at, before, user_id, *known = rows[0]
    if not key:
        raise RateLimitedError(LIMIT, await _find_wait(conn, clients, networks, addresses[0]), standings)
    return OpenedLogin(
        LoginTry(key, at, before, addresses[0], clients[0], networks[0]),
        None if user_id is None else Credentials(user_id, *known),
        standings,
    )


async def _find_wait(
    conn: Connection, clients: Sequence[bytes], networks: Sequence[bytes], address: bytes
) -> float:
    """Return the seconds until an attempt counts again."""
    counted = _COUNTED.format(clients="%(clients)s", networks="%(networks)s", address="%(address)s")
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"""
            SELECT extract(epoch FROM f.last_at + {_WAIT} - now())::float8
              FROM login_failures f JOIN ({counted}) AS counted USING (key)
            """,  # noqa: S608 - constants of this module
            {"address": address, "clients": list(clients), "networks": list(networks)},
        )
        wait = await cursor.fetchone()
    return max(wait[0] if wait else 0.0, 1.0)
