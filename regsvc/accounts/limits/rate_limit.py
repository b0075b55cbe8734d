"""Rate limits shared by any number of processes, counted in PostgreSQL.

The generic cell rate algorithm (ITU-T I.371): a limit of 20 a minute lets 20 requests through at once, then one every
three seconds. Its whole state is one time per client, at which the limit is unused again; the clock is the database's.
One statement checks all limits of a request, and either all count it or none does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.postgres.query import (
    BYTEA_ARRAY,
    INTEGER_ARRAY,
    Query,
    read_double,
    write_array,
    write_byte_array,
)
from regsvc.security.tokens import Secrets, blind

_LABEL = "throttle"
_ROUNDING = 1e-6  # of a permit: clocks have microseconds
_LOOK = Query(
    """
    SELECT coalesce(extract(epoch FROM greatest(t.free_at, now()) - now())::float8, 0)
      FROM unnest($1) WITH ORDINALITY AS a (key, place) LEFT JOIN throttles t USING (key)
     ORDER BY place
    """,
    [BYTEA_ARRAY],
    [read_double],
)
_TAKE = Query("SELECT take_permits($1, $2, $3)", [BYTEA_ARRAY, INTEGER_ARRAY, INTEGER_ARRAY], [read_double])


@dataclass(frozen=True)
class Limit:
    """A rate limit: permits per period.

    Args:
        name: a stable name; clients see it.
        quota: permits.
        seconds: the period after which all permits are available again.
    """

    name: str
    quota: int
    seconds: int


@dataclass(frozen=True)
class Demand:
    """A request for one permit of a limit by the holder of a key."""

    limit: Limit
    key: bytes


@dataclass(frozen=True)
class Standing:
    """The state of a limit for one key.

    Args:
        limit: the limit.
        remaining: permits available now.
        reset: seconds until all permits are available again.
    """

    limit: Limit
    remaining: int
    reset: float


class RateLimitedError(RegsvcError):
    """Too many requests. Wait before you retry."""

    code = "rate_limited"

    def __init__(self, limit: str, retry_after: float, standings: Sequence[Standing] = ()) -> None:
        """Args: limit: its name. retry_after: seconds to wait. standings: states of the requested limits."""
        super().__init__()
        self.limit = limit
        self.retry_after = retry_after
        self.standings = tuple(standings)


def demand(secrets: Secrets, limit: Limit, *whom: str) -> Demand:
    """Return the demand for one permit by a key's parts: an address, a network, or both."""
    return Demand(limit, blind(secrets, _LABEL, limit.name, *whom))


async def take_permits(conn: Connection, demands: Sequence[Demand]) -> list[Standing]:
    """Take a permit of each limit, and return what is left of them.

    Not in a transaction that may be rolled back: requests refused for other reasons count, too.

    Raises:
        RateLimitedError: a limit has no permit left; none was taken.
    """
    used = await _TAKE.execute(
        conn,
        write_byte_array(it.key for it in demands),
        write_array([it.limit.quota for it in demands]),
        write_array([it.limit.seconds for it in demands]),
    )
    return find_standings(demands, [seconds for (seconds,) in used])


def find_standings(demands: Sequence[Demand], used: Sequence[float]) -> list[Standing]:
    """Return what is left of limits, given the seconds for which `take_permits` says that each is used up.

    Raises:
        RateLimitedError: a limit had no permit left; none was taken.
    """
    asked = [(it.limit, seconds) for it, seconds in zip(demands, used, strict=True)]
    wait, limit = max(((seconds - limit.seconds, limit.name) for limit, seconds in asked), default=(0.0, ""))
    if wait > 0:
        before = [_standing(limit, seconds - limit.seconds / limit.quota) for limit, seconds in asked]
        raise RateLimitedError(limit, wait, before)
    return [_standing(limit, seconds) for limit, seconds in asked]


async def look_at_limits(conn: Connection, demands: Sequence[Demand]) -> list[Standing]:
    """Return how limits would stand with one permit more taken of each, and take none."""
    used = await _LOOK.execute(conn, write_byte_array(it.key for it in demands))
    return [
        _standing(it.limit, seconds + it.limit.seconds / it.limit.quota)
        for it, (seconds,) in zip(demands, used, strict=True)
    ]


def is_half_used(standing: Standing) -> bool:
    """Return whether more than half of a limit is used up."""
    return standing.reset > standing.limit.seconds / 2 + _ROUNDING


def _standing(limit: Limit, used: float) -> Standing:
    """Return the state of a limit with `used` seconds used up."""
    remaining = math.floor((1 - used / limit.seconds) * limit.quota + _ROUNDING)
    return Standing(limit, max(remaining, 0), used)


async def purge_throttles(conn: Connection, limit: int) -> int:
    """Delete unused limits, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM throttles
         WHERE key IN (SELECT key FROM throttles WHERE free_at <= now()
                        ORDER BY free_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount
