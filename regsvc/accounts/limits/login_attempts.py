"""Password guessing: after ten failed login attempts each further one waits, from 30 s up to an hour.

Attempts are counted by the address as typed, whether or not it has an account, so the count does not reveal accounts. A
client that has logged in to the address before has its own count: strangers' failures do not delay it (OWASP calls this
device cookies; no cookie is needed here). A client is recognised by its address and software, or else by its network.
Clients recognised by network share one count, so that a neighbour cannot delay a client at its former address.

An attempt is counted before it is checked and withdrawn if it was right, so a thousand at once count like ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from regsvc.accounts.audit.record import By
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets, blinds

KEEP_CLIENTS = timedelta(days=90)
CLIENTS = 20  # of an address, each in two rows; the least recently used are forgotten

LABEL = "login-tries"
DAY = "interval '24 hours'"


@dataclass(frozen=True)
class Place:
    """The origin of a login attempt.

    Args:
        network: the client's IPv4 address, or the /64 of its IPv6 address.
        client: short name of the client's software.
        origin: the wider network prefix of the client.
    """

    network: str
    client: str
    origin: str

    def client_keys(self, secrets: Secrets, address: str) -> list[bytes]:
        """Return the keys of this client for an address, the current one first."""
        return blinds(secrets, LABEL, "device", address, self.network, self.client)

    def network_keys(self, secrets: Secrets, address: str) -> list[bytes]:
        """Return the keys of the whole network for an address, the current one first."""
        return blinds(secrets, LABEL, "client", address, self.origin)


@dataclass(frozen=True)
class LoginTry:
    """A counted login attempt.

    Args:
        counted: the row that counts the attempt.
        at: when the attempt was counted.
        before: time of the previous attempt, if any.
        address: key of the address as typed.
        client: key of address and client.
        network: key of address and the client's network.
    """

    counted: bytes
    at: datetime
    before: datetime | None
    address: bytes
    client: bytes
    network: bytes

    @property
    def known(self) -> bool:
        """Return whether the client has logged in to this address before."""
        return self.counted != self.address


def uncounted_try(secrets: Secrets, address: str, place: Place, at: datetime) -> LoginTry:
    """Return an attempt that guesses no password, so that none was counted: forgiving it makes its client known."""
    client, network = place.client_keys(secrets, address)[0], place.network_keys(secrets, address)[0]
    return LoginTry(client, at, None, blinds(secrets, LABEL, "address", address)[0], client, network)


# Withdraws an attempt as part of another statement, if `{0}` has a row; the values are those of a `LoginTry`.
_WITHDRAWN = """
    withdrawn AS (
        DELETE FROM login_failures WHERE key = %(counted)s AND failures = 1 AND EXISTS (SELECT FROM {0})
    ), reduced AS (
        UPDATE login_failures
           SET failures = failures - 1,
               last_at = CASE WHEN last_at = %(at)s THEN coalesce(%(before)s, last_at) ELSE last_at END
         WHERE key = %(counted)s AND failures > 1 AND EXISTS (SELECT FROM {0})
    )
"""
_FORGOTTEN = """
    forgotten AS (
        DELETE FROM login_failures WHERE key = %(counted)s AND EXISTS (SELECT FROM {0})
    )
"""
# Trusts clients of an address. Concurrent logins skip rows that another deletes, and never wait for each other.
_REMEMBERED = """
    remembered AS (
        INSERT INTO login_clients (key, address, last_at)
        SELECT DISTINCT k, %(address)s::bytea, now() FROM {0}, unnest(%(keys)s::bytea[]) AS k ORDER BY k
        ON CONFLICT (key) DO UPDATE SET last_at = now()
    ), dropped AS (
        DELETE FROM login_clients
         WHERE EXISTS (SELECT FROM {0})
           AND key IN (SELECT key FROM login_clients
                        WHERE address = %(address)s AND key <> ALL(%(keys)s)
                        ORDER BY last_at DESC, key OFFSET %(others)s
                          FOR UPDATE SKIP LOCKED)
    )
"""
_ONE = "(SELECT) AS one"


async def withdraw_try(conn: Connection, tried: LoginTry) -> None:
    """Withdraw an attempt that was right or that the service was too busy to check."""
    await conn.execute(f"WITH {_WITHDRAWN.format(_ONE)} SELECT", vars(tried))


def forgiven(row: str, *, strange: bool) -> str:
    """Return what `forgive_tries` does as part of another statement: common table expressions.

    Args:
        row: what must have a row, or nothing is done.
        strange: whether all strangers' row counted the attempt.
    """
    return f"{_WITHDRAWN if strange else _FORGOTTEN}, {_REMEMBERED}".format(row)


def forgiven_values(tried: LoginTry) -> dict[str, object]:
    """Return the values of `forgiven` for an attempt that succeeded."""
    clients = _clients(tried.address, [tried.client, tried.network])
    return {"counted": tried.counted, "at": tried.at, "before": tried.before, **clients}


async def forgive_tries(conn: Connection, tried: LoginTry) -> None:
    """Trust the client of a successful attempt, in the caller's transaction, and forget its earlier failures.

    Strangers' failures stay: an end of their waits would reveal that the owner has logged in.
    """
    clauses = forgiven(_ONE, strange=not tried.known)
    await conn.execute(f"WITH {clauses} SELECT", forgiven_values(tried))


async def know_client(conn: Connection, secrets: Secrets, address: str, by: By) -> None:
    """Trust a client that opened a link mailed to the address.

    Strangers' guesses at the address, even from before it had an account, do not delay its owner.
    """
    if by.origin is not None:
        place = Place(by.network or by.origin, by.client or "", by.origin)
        keys = [place.client_keys(secrets, address)[0], place.network_keys(secrets, address)[0]]
        await _remember(conn, blinds(secrets, LABEL, "address", address)[0], keys)


async def is_known(conn: Connection, secrets: Secrets, address: str, origin: str) -> bool:
    """Return whether an address's owner logged in, or proved their presence otherwise, from a network."""
    cursor = await conn.execute(
        "SELECT FROM login_clients WHERE key = ANY(%(clients)s) AND last_at > now() - %(keep)s",
        {"clients": blinds(secrets, LABEL, "client", address, origin), "keep": KEEP_CLIENTS},
    )
    return cursor.rowcount > 0


async def _remember(conn: Connection, address: bytes, keys: Sequence[bytes]) -> None:
    await conn.execute(f"WITH {_REMEMBERED.format(_ONE)} SELECT", _clients(address, keys))


def _clients(address: bytes, keys: Sequence[bytes]) -> dict[str, object]:
    return {"keys": list(keys), "address": address, "others": 2 * (CLIENTS - 1)}


async def forget_address(conn: Connection, secrets: Secrets, address: str) -> None:
    """Forget the trusted clients of an address, in the caller's transaction.

    Call it when its account is deleted or its password replaced. Strangers' failures stay until they are a day old:
    an end of their waits would reveal the change.
    """
    keys = {"keys": blinds(secrets, LABEL, "address", address)}
    await conn.execute(
        """
        DELETE FROM login_failures
         WHERE key IN (SELECT key FROM login_clients WHERE address = ANY(%(keys)s))
        """,
        keys,
    )
    await conn.execute("DELETE FROM login_clients WHERE address = ANY(%(keys)s)", keys)


async def purge_login_tries(conn: Connection, limit: int) -> int:
    """Delete failures older than a day and clients unused for 90 days; return the count."""
    cursor = await conn.execute(
        f"""
        WITH clients AS (
            DELETE FROM login_clients
             WHERE key IN (SELECT key FROM login_clients WHERE last_at <= now() - %(keep)s
                            ORDER BY last_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            RETURNING key
        ), failures AS (
            DELETE FROM login_failures
             WHERE key IN (SELECT key FROM login_failures WHERE last_at <= now() - {DAY}
                            ORDER BY last_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            RETURNING key
        )
        SELECT key FROM clients UNION ALL SELECT key FROM failures
        """,  # noqa: S608 - constants of this module
        {"keep": KEEP_CLIENTS, "limit": limit},
    )
    return cursor.rowcount
