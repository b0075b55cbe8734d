"""Guessing passwords: after ten log-ins that failed each next one waits, 30 s at first and up to an hour.

They are counted by the address as it was typed, whether or not it has an account, so that nothing here tells which.
A client that logged in to that address before is counted on its own: whatever strangers do, it waits for its own
mistakes alone (OWASP calls this device cookies; here no cookie is needed). It is known again by its own address and
software. Failing these its network is, with a count that all of that network share, so that a neighbour cannot hold up
a client at the address that it had before.

A try is counted before it is made and taken back when it was right, so that a thousand at once are not more than ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.rows import tuple_row

from regsvc.accounts.audit.record import By
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets, blinds

FREE = 10  # failures in a row that cost no wait
KEEP_CLIENTS = timedelta(days=90)
CLIENTS = 20  # of an address, each in two rows; the longest unused are forgotten
LIMIT = "login-failures"

_LABEL = "login-tries"
_DAY = "interval '24 hours'"
# After 10 failures 30 s, after 11 a minute, after 17 and more an hour; after a quiet day none.
_WAIT = f"""
    CASE WHEN f.failures < {FREE} OR f.last_at <= now() - {_DAY} THEN interval '0'
         ELSE least(interval '30 seconds' * 2 ^ least(f.failures - {FREE}, 7), interval '1 hour')
    END
"""
# Which row counts a try: the client's if it is known, else its network's if that is, else the one of all strangers.
_COUNTED = """
    SELECT coalesce((SELECT c.key FROM login_clients c
                      WHERE c.key = ANY(%(clients)s) AND c.last_at > now() - %(keep)s LIMIT 1),
                    (SELECT c.key FROM login_clients c
                      WHERE c.key = ANY(%(networks)s) AND c.last_at > now() - %(keep)s LIMIT 1),
                    %(address)s) AS key
"""


@dataclass(frozen=True)
class Place:
    """Where an attempt comes from.

    Args:
        network: the client: an IPv4 address, or the /64 of an IPv6 address.
        client: a short word for its software.
        origin: the wider network prefix that it is in.
    """

    network: str
    client: str
    origin: str

    def client_keys(self, secrets: Secrets, address: str) -> list[bytes]:
        """Return the keys of this client for an address, the current one first."""
        return blinds(secrets, _LABEL, "device", address, self.network, self.client)

    def network_keys(self, secrets: Secrets, address: str) -> list[bytes]:
        """Return the keys of the whole network for an address, the current one first."""
        return blinds(secrets, _LABEL, "client", address, self.origin)


@dataclass(frozen=True)
class LoginTry:
    """A try that was counted.

    Args:
        counted: the row that counts it.
        at: when it was counted.
        before: when the one before was, if there was one.
        address: the key of the address, as typed.
        client: the key of the address and the client.
        network: the key of the address and the client's network.
    """

    counted: bytes
    at: datetime
    before: datetime | None
    address: bytes
    client: bytes
    network: bytes

    @property
    def known(self) -> bool:
        """Whether the client has logged in to this address before."""
        return self.counted != self.address


async def begin_try(conn: Connection, secrets: Secrets, address: str, place: Place) -> LoginTry:
    """Count a try to log in, before it costs anything.

    Args:
        conn: not in a transaction: whatever comes of the try, it counts.
        secrets: what keys derive from.
        address: as typed.
        place: where it comes from.

    Raises:
        RateLimitedError: too many failed; it is not counted.
    """
    addresses = blinds(secrets, _LABEL, "address", address)
    clients, networks = place.client_keys(secrets, address), place.network_keys(secrets, address)
    values = {"address": addresses[0], "clients": clients, "networks": networks, "keep": KEEP_CLIENTS}
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
            return LoginTry(key, at, before, addresses[0], clients[0], networks[0])
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
    await _remember(conn, tried.address, [tried.client, tried.network])


async def know_client(conn: Connection, secrets: Secrets, address: str, by: By) -> None:
    """Know a client from now on that proved that it reads the mail of an address: it opened what was mailed there.

    Whatever strangers guessed at this address, even before it had an account, its owner does not wait for that.
    """
    if by.origin is not None:
        place = Place(by.network or by.origin, by.client or "", by.origin)
        keys = [place.client_keys(secrets, address)[0], place.network_keys(secrets, address)[0]]
        await _remember(conn, blinds(secrets, _LABEL, "address", address)[0], keys)


async def is_known(conn: Connection, secrets: Secrets, address: str, origin: str) -> bool:
    """Return whether an address's owner logged in from a network, or proved otherwise that they are there."""
    cursor = await conn.execute(
        "SELECT FROM login_clients WHERE key = ANY(%(clients)s) AND last_at > now() - %(keep)s",
        {"clients": blinds(secrets, _LABEL, "client", address, origin), "keep": KEEP_CLIENTS},
    )
    return cursor.rowcount > 0


async def _remember(conn: Connection, address: bytes, keys: Sequence[bytes]) -> None:
    # Log-ins at the same moment skip what the other deletes, and never wait for each other.
    await conn.execute(
        """
        WITH known AS (
            INSERT INTO login_clients (key, address, last_at)
            SELECT DISTINCT k, %(address)s::bytea, now() FROM unnest(%(keys)s::bytea[]) AS k ORDER BY k
            ON CONFLICT (key) DO UPDATE SET last_at = now()
        )
        DELETE FROM login_clients
         WHERE key IN (SELECT key FROM login_clients
                        WHERE address = %(address)s AND key <> ALL(%(keys)s)
                        ORDER BY last_at DESC, key OFFSET %(others)s
                          FOR UPDATE SKIP LOCKED)
        """,
        {"keys": list(keys), "address": address, "others": 2 * (CLIENTS - 1)},
    )


async def forget_address(conn: Connection, secrets: Secrets, address: str) -> None:
    """Forget the clients of an address, in the caller's transaction: its account is deleted, or has another password.

    What strangers guessed at it stays until it is a day old: if their waits ended, they would know of that.
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
