"""The overview of the last 24 hours, shared by all viewers."""

from __future__ import annotations

import math

import trio

from regsvc.accounts.admin.statistics import Overview, make_overview
from regsvc.postgres.pool import Pool

FRESH = 2.0  # seconds for which viewers share an overview
COST_SHARE = 20  # inverse of the share of time that viewers may keep the database busy


class SharedOverview:
    """An overview shared by all viewers; one of them computes the next when it is stale."""

    def __init__(self) -> None:
        self._lock = trio.Lock()
        self._made: Overview | None = None
        self._good_until = -math.inf

    async def get(self, pool: Pool) -> Overview:
        """Return an overview that is seconds old; the more it costs, the longer it is kept.

        Raises:
            DatabaseUnavailableError: the database did not answer in time.
        """
        async with self._lock:
            began = trio.current_time()
            if self._made is None or began >= self._good_until:
                async with pool.connection() as conn:
                    self._made = await make_overview(conn)
                took = trio.current_time() - began
                self._good_until = began + took + max(FRESH, COST_SHARE * took)
            return self._made
