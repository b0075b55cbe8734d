"""The leader: holds the leases of the chores that this process stands for."""

from __future__ import annotations

import trio

from regsvc.errors import DatabaseUnavailableError
from regsvc.jobs.leading import Leadership
from regsvc.postgres.pool import Pool
from regsvc.waiting import wait_any


async def run_leader(
    *,
    pool: Pool,
    leadership: Leadership,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep leases until `stopping` is set, then give them up.

    Args:
        pool: PostgreSQL.
        leadership: what the children of this process stand for.
        stopping: ends the child.
        task_status: reports the start.

    Raises:
        DatabaseUnavailableError: the database is unavailable.
    """
    task_status.started()
    while not stopping.is_set():
        seconds = await leadership.renew(pool)
        await wait_any(stopping.wait, leadership.wait_woken, seconds=seconds)
    try:
        await leadership.leave(pool)
    except DatabaseUnavailableError:
        return  # the leases end by themselves
