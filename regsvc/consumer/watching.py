"""The watcher: tells the database which messages the clients of this process wait for, so that they are sent first."""

from __future__ import annotations

import trio

from regsvc.live import LiveHub
from regsvc.mail.queue.watches import watch_mails
from regsvc.postgres.pool import Pool
from regsvc.waiting import wait_any

EVERY = 2.0  # seconds between two statements
MOST = 1_000  # registrations in a statement, the newest waiters


async def run_watcher(
    *,
    pool: Pool,
    hub: LiveHub,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Write one statement every two seconds while clients wait for messages that are not sent, until `stopping` is set.

    Args:
        pool: PostgreSQL.
        hub: holds the waiters.
        stopping: ends the watcher.
        task_status: reports the start at once.

    Raises:
        DatabaseUnavailableError: the database is unavailable.
    """
    task_status.started()
    while not stopping.is_set():
        await wait_any(stopping.wait, seconds=EVERY)
        unsent = hub.list_unsent(MOST)
        if unsent and not stopping.is_set():
            async with pool.connection() as conn:
                await watch_mails(conn, unsent)
