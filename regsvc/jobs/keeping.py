"""Keeping the leases of claimed jobs, by a clock that this process can trust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import trio

from regsvc.errors import DatabaseUnavailableError
from regsvc.jobs.leases import RENEW_EVERY, find_leased, renew_leases
from regsvc.jobs.table import LEASE, JobTable, Leased
from regsvc.postgres.pool import Pool
from regsvc.waiting import lease_time

TRUSTED: Final = LEASE.total_seconds() - 5.0
"""Seconds from a claim or renewal in which a process acts under a lease."""


class Held(Protocol):
    """A claimed job in hand; its work is begun only before `held_until`, on the clock of `lease_time`."""

    held_until: float

    @property
    def job(self) -> Leased:
        """Return the claimed job."""


async def keep_leases(pool: Pool, table: JobTable[Any], list_held: Callable[[], Sequence[Held]]) -> None:
    """Renew the leases of jobs in hand forever; the work of those whose lease is lost is not begun."""
    while True:
        await trio.sleep(RENEW_EVERY.total_seconds())
        held = list_held()
        if held:
            await _renew(pool, table, held)


async def _renew(pool: Pool, table: JobTable[Any], held: Sequence[Held]) -> None:
    renewed_at = lease_time()
    jobs = [each.job for each in held]
    try:
        async with pool.connection() as conn:
            renewed = await renew_leases(conn, table, jobs)
            ours = renewed if len(renewed) == len(jobs) else await find_leased(conn, table, jobs)
    except DatabaseUnavailableError:
        return  # the leases expire by themselves, and with them the right to act
    for each in held:
        if each.job.id in renewed:
            each.held_until = renewed_at + TRUSTED
        elif each.job.id not in ours:
            each.held_until = renewed_at
