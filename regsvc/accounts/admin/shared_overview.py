"""What the console's overview reads from the database, shared by all viewers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import trio

from regsvc.accounts.admin.statistics import Overview, make_overview
from regsvc.accounts.deliveries.radar import Echo, list_echoes
from regsvc.mail.queue.breaker import get_breaker
from regsvc.mail.queue.families import load_held
from regsvc.mail.queue.route_breakers import load_routes
from regsvc.mail.queue.verdict import Breaker
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool

FRESH = 2.0  # seconds for which viewers share an overview
COST_SHARE = 20  # inverse of the share of time that viewers may keep the database busy


@dataclass(frozen=True)
class Look:
    """One look at the database.

    Args:
        day: the statistics of the last 24 hours.
        breaker: whether sending is paused.
        routes: each route by its name.
        held: receivers that slow us down, and for how many seconds more.
        echoes: how mails of the large providers were confirmed lately.
    """

    day: Overview
    breaker: Breaker
    routes: Mapping[str, Breaker]
    held: Mapping[str, float]
    echoes: Sequence[Echo]


async def _look(conn: Connection) -> Look:
    return Look(
        day=await make_overview(conn),
        breaker=await get_breaker(conn),
        routes=await load_routes(conn),
        held=await load_held(conn),
        echoes=await list_echoes(conn),
    )


class SharedOverview:
    """A look at the database shared by all viewers; one of them takes the next when it is stale."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._made: Look | None = None
        self._good_until = -math.inf

    async def get(self, pool: Pool) -> Look:
        """Return a look that is seconds old; the more it costs, the longer it is kept.

        Raises:
            DatabaseUnavailableError: the database did not answer in time.
        """
        async with self._lock:
            began = trio.current_time()
            if self._made is None or began >= self._good_until:
                async with pool.connection() as conn:
                    self._made = await _look(conn)
                took = trio.current_time() - began
                self._good_until = began + took + max(FRESH, COST_SHARE * took)
            return self._made
