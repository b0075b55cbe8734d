"""Show attempts without a mail of their own what is due, and look again at how receiver families fare."""

from __future__ import annotations

import trio

from regsvc.accounts.deliveries.families import refresh_families
from regsvc.accounts.deliveries.unsent import show_due_facts
from regsvc.postgres.pool import Pool
from regsvc.waiting import wait_any

BATCH = 200
_POLL = 1.0  # seconds at most between two looks
_REFRESH = 60.0  # seconds between two looks at the families


async def run_unsent_facts(
    *,
    pool: Pool,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Show what is due until `stopping` is set; several processes do not conflict.

    Raises:
        DatabaseUnavailableError: the database is unavailable.
    """
    task_status.started()
    refreshed = -_REFRESH
    while not stopping.is_set():
        if trio.current_time() - refreshed >= _REFRESH:
            async with pool.connection() as conn:
                await refresh_families(conn)
            refreshed = trio.current_time()
        async with pool.transaction() as conn:
            seconds = await show_due_facts(conn, BATCH)
        await wait_any(stopping.wait, seconds=_POLL if seconds is None else min(max(seconds, 0.01), _POLL))
