"""Guessing passwords: after ten log-ins that failed each next one waits, 30 s at first and up to an hour.

They are counted by the address as it was typed, whether or not it has an account, so that nothing here tells which.
A client that logged in to that address before is counted on its own: whatever strangers do, it waits for its own
mistakes alone (OWASP calls this device cookies; here it is the network that is known again, and no cookie is).

A try is counted before it is made and taken back when it was right, so that a thousand at once are not more than ten.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import tuple_row

from regsvc.accounts.audit.record import By
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets, blinds

FREE = 10  # failures in a row that cost no wait
KEEP_CLIENTS = timedelta(days=90)
CLIENTS = 20  # of an address; the longest unused are forgotten
LIMIT = "login-failures"

_LABEL = "login-tries"
_DAY = "interval '24 hours'"
# After 10 failures 30 s, after 11 a minute, after 17 and more an hour; after a quiet day none.
_WAIT = f"""
    CASE WHEN f.failures < {FREE} OR f.last_at <= now() - {_DAY} THEN interval '0'
         ELSE least(interval '30 seconds' * 2 ^ least(f.failures - {FREE}, 7), interval '1 hour')
    END
"""
# Which row counts a try: that of the client if it is known, else the one of all strangers to the address.
_COUNTED = """
    SELECT coalesce((SELECT c.key FROM login_clients c
                      WHERE c.key = ANY(%(clients)s) AND c.last_at > now() - %(keep)s LIMIT 1),
                    %(address)s) AS key
"""


@dataclass(frozen=True)
class LoginTry:
    """A try that was counted.

    Args:
        counted: the row that counts it.
        at: when it was counted.
        before: when the one before was, if there was one.
        address: the key of the address, as typed.
        client: the key of the address and the client.
    """

    counted: bytes
    at: datetime
    before: datetime | None
    address: bytes
    client: bytes


async def begin_try(conn: Connection, secrets: Secrets, address: str, client: str) -> LoginTry:
    """Count a try to log in, before it costs anything.

    Args:
        conn: not in a transaction: whatever comes of the try, it counts.
        secrets: what keys derive from.
        address: as typed.
        client: the network prefix that it comes from.

    Raises:
        RateLimitedError: too many failed; it is not counted.
    """
    addresses = blinds(secrets, _LABEL, "address", address)
    clients = blinds(secrets, _LABEL, "client", address, client)
    values = {"address": addresses[0], "clients": clients, "keep": KEEP_CLIENTS}
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"""
            WITH counted AS ({_COUNTED})
            INSERT INTO login_failures AS f (key, failures, last_at)
            SELECT key, 1, now() FROM counted
             -- Looks first: an update that comes to nothing would lock the row, which is a write.
             WHERE NOT EXISTS (SELECT FROM login_failures f
                                WHERE f.key = counted.key AND f.last_at + {_WAIT} > now())
            ON CONFLICT (key) DO UPDATE
               SET failures = CASE WHEN f.last_at <= now() - {_DAY} THEN 1 ELSE f.failures + 1 END,
                   last_at = now()
             WHERE {_WAIT} = interval '0' OR f.last_at + {_WAIT} <= now()
            RETURNING key, last_at, (SELECT b.last_at FROM login_failures b JOIN counted USING (key))
            """,  # noqa: S608 - constants of this module
            values,
        )
        counted = await cursor.fetchone()
        if counted is not None:
            key, at, before = counted
            return LoginTry(key, at, before, addresses[0], clients[0])
        await cursor.execute(
            f"""
            SELECT extract(epoch FROM f.last_at + {_WAIT} - now())::float8
              FROM login_failures f JOIN ({_COUNTED}) AS counted USING (key)
            """,  # noqa: S608 - constants of this module
            values,
        )
        wait = await cursor.fetchone()
        raise RateLimitedError(LIMIT, max(wait[0] if wait else 0.0, 1.0))


async def withdraw_try(conn: Connection, tried: LoginTry) -> None:
    """Take a try back, as if it had not been made: it was right, or we were too busy to look."""
    await conn.execute(
        """
        WITH first AS (
            DELETE FROM login_failures WHERE key = %(counted)s AND failures = 1
        )
        UPDATE login_failures
           SET failures = failures - 1,
               last_at = CASE WHEN last_at = %(at)s THEN coalesce(%(before)s, last_at) ELSE last_at END
         WHERE key = %(counted)s AND failures > 1
        """,
        vars(tried),
    )


async def forgive_tries(conn: Connection, tried: LoginTry) -> None:
    """Know the client of a try that was right, in the caller's transaction, and forget its failures before.

    Those of strangers stay as they are: if their waits ended, they would know that somebody has logged in.
    """
    if tried.counted == tried.address:
        await withdraw_try(conn, tried)
    else:
        await conn.execute("DELETE FROM login_failures WHERE key = %(counted)s", vars(tried))
    await _remember(conn, tried.address, tried.client)


async def know_client(conn: Connection, secrets: Secrets, address: str, by: By) -> None:
    """Know a client from now on that proved that it reads the mail of an address: it opened what was mailed there.

    Whatever strangers guessed at this address, even before it had an account, its owner does not wait for that.
    """
    if by.origin is not None:
        addresses = blinds(secrets, _LABEL, "address", address)
        await _remember(conn, addresses[0], blinds(secrets, _LABEL, "client", address, by.origin)[0])


async def is_known(conn: Connection, secrets: Secrets, address: str, client: str) -> bool:
    """Say whether a client is known to whoever has an address: it logged in there, or proved otherwise that it may."""
    cursor = await conn.execute(
        "SELECT FROM login_clients WHERE key = ANY(%(clients)s) AND last_at > now() - %(keep)s",
        {"clients": blinds(secrets, _LABEL, "client", address, client), "keep": KEEP_CLIENTS},
    )
    return cursor.rowcount > 0


async def _remember(conn: Connection, address: bytes, client: bytes) -> None:
    # Log-ins at the same moment skip what the other deletes, and never wait for each other.
    await conn.execute(
        """
        WITH known AS (
            INSERT INTO login_clients (key, address, last_at) VALUES (%(client)s, %(address)s, now())
            ON CONFLICT (key) DO UPDATE SET last_at = now()
        )
        DELETE FROM login_clients
         WHERE key IN (SELECT key FROM login_clients
                        WHERE address = %(address)s AND key <> %(client)s
                        ORDER BY last_at DESC, key OFFSET %(others)s
                          FOR UPDATE SKIP LOCKED)
        """,
        {"client": client, "address": address, "others": CLIENTS - 1},
    )


async def forget_address(conn: Connection, secrets: Secrets, address: str) -> None:
    """Forget the clients of an address, in the caller's transaction: its account is deleted.

    What strangers guessed at it stays until it is a day old: if their waits ended, they would know of the deletion.
    """
    keys = {"keys": blinds(secrets, _LABEL, "address", address)}
    await conn.execute(
        """
        DELETE FROM login_failures
         WHERE key IN (SELECT key FROM login_clients WHERE address = ANY(%(keys)s))
        """,
        keys,
    )
    await conn.execute("DELETE FROM login_clients WHERE address = ANY(%(keys)s)", keys)


async def purge_login_tries(conn: Connection, limit: int) -> int:
    """Delete failures of more than a day ago, and clients that did not come for 90 days; return how many."""
    cursor = await conn.execute(
        f"""
        WITH clients AS (
            DELETE FROM login_clients
             WHERE key IN (SELECT key FROM login_clients WHERE last_at <= now() - %(keep)s
                            ORDER BY last_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            RETURNING key
        ), failures AS (
            DELETE FROM login_failures
             WHERE key IN (SELECT key FROM login_failures WHERE last_at <= now() - {_DAY}
                            ORDER BY last_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            RETURNING key
        )
        SELECT key FROM clients UNION ALL SELECT key FROM failures
        """,  # noqa: S608 - constants of this module
        {"keep": KEEP_CLIENTS, "limit": limit},
    )
    return cursor.rowcount
