"""Limits that hold over any number of processes: so many requests within so long, counted in PostgreSQL.

The generic cell rate algorithm (ITU-T I.371): a limit of 20 a minute lets 20 through at once, and then one every
three seconds. Its whole state is one moment a client, when it is as if nothing had been used; the clock is the
database's. All limits of a request are checked by one statement, and either all count it or none does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import scalar_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets, blind

_LABEL = "throttle"
_ROUNDING = 1e-6  # of a permit: clocks have microseconds


@dataclass(frozen=True)
class Limit:
    """So many permits within so long.

    Args:
        name: a stable word; clients see it.
        quota: permits.
        seconds: after which all of them are there again.
    """

    name: str
    quota: int
    seconds: int


@dataclass(frozen=True)
class Demand:
    """A permit of a limit that is asked for on somebody's behalf, who is known by a key."""

    limit: Limit
    key: bytes


@dataclass(frozen=True)
class Standing:
    """What is left of a limit.

    Args:
        limit: this one.
        remaining: permits that may be taken at this moment.
        reset: seconds until all of them are there again.
    """

    limit: Limit
    remaining: int
    reset: float


class RateLimitedError(RegsvcError):
    """Too many requests: wait a little."""

    code = "rate_limited"

    def __init__(self, limit: str, retry_after: float, standings: Sequence[Standing] = ()) -> None:
        """Args: limit: its name. retry_after: seconds to wait. standings: what is left of the limits asked."""
        super().__init__()
        self.limit = limit
        self.retry_after = retry_after
        self.standings = tuple(standings)


def demand(secrets: Secrets, limit: Limit, *whom: str) -> Demand:
    """Return the demand for one permit of a limit on somebody's behalf: an address, a network, or both."""
    return Demand(limit, blind(secrets, _LABEL, limit.name, *whom))


async def take_permits(conn: Connection, demands: Sequence[Demand]) -> list[Standing]:
    """Take a permit of each limit, and return what is left of them.

    Not in a transaction that may be rolled back: what was refused for another reason counts, too.

    Raises:
        RateLimitedError: one of them has none left; nothing was taken of any.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT take_permits(%(keys)s::bytea[], %(quotas)s::integer[], %(windows)s::integer[])",
            {
                "keys": [it.key for it in demands],
                "quotas": [it.limit.quota for it in demands],
                "windows": [it.limit.seconds for it in demands],
            },
        )
        used: list[float] = await cursor.fetchall()
    asked = [(it.limit, seconds) for it, seconds in zip(demands, used, strict=True)]
    wait, limit = max((seconds - limit.seconds, limit.name) for limit, seconds in asked)
    if wait > 0:
        before = [_standing(limit, seconds - limit.seconds / limit.quota) for limit, seconds in asked]
        raise RateLimitedError(limit, wait, before)
    return [_standing(limit, seconds) for limit, seconds in asked]


def _standing(limit: Limit, used: float) -> Standing:
    """Say how a limit stands of which so many seconds are used up."""
    remaining = math.floor((1 - used / limit.seconds) * limit.quota + _ROUNDING)
    return Standing(limit, max(remaining, 0), used)


async def purge_throttles(conn: Connection, limit: int) -> int:
    """Delete limits of which nothing is used any more, and return how many."""
    cursor = await conn.execute(
        """
        DELETE FROM throttles
         WHERE key IN (SELECT key FROM throttles WHERE free_at <= now()
                        ORDER BY free_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount
