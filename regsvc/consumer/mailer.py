"""The mailer: sends mails that are due, straight from PostgreSQL.

Without a broker it takes what is due at once; beside one it takes what nobody has carried away for ten seconds, so
that a broker that is gone delays a mail and never stops it. A notification wakes it, a poll makes sure.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from functools import partial

import trio

from regsvc.consumer.delivery import open_delivery
from regsvc.consumer.due import listen_due
from regsvc.consumer.letters import LetterWriter
from regsvc.mail import jobs
from regsvc.mail.transport import Transport
from regsvc.postgres.pool import Pool
from regsvc.waiting import Alarm, wait_any

AT_ONCE = timedelta(0)
_POLL = 5.0  # seconds between looks when nothing is known to come due before


async def run_mailer(
    *,
    pool: Pool,
    conninfo: str,
    open_transport: Callable[[], Transport],
    writer: LetterWriter,
    sessions: int,
    spaced: bool,
    overdue: timedelta,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Send what is due until `stopping` is set; then finish what is in hand.

    Args:
        pool: PostgreSQL.
        conninfo: of the connection that hears of new mails.
        open_transport: opens the way to the mail server.
        writer: makes mails of letters.
        sessions: how many mails are sent at the same time.
        spaced: mails of one address keep to its schedule.
        overdue: how long a mail must have been due.
        stopping: ends it.
        task_status: told once it listens.

    Raises:
        DatabaseUnavailableError: there is nothing to take mails from.
    """
    woken = Alarm()
    async with (
        aclosing(open_transport()) as transport,
        open_delivery(
            pool, transport, writer, sessions=sessions, spaced=spaced, stopping=stopping
        ) as delivery,
        trio.open_nursery() as nursery,
    ):
        if overdue == AT_ONCE:
            await nursery.start(listen_due, conninfo, woken)
        task_status.started()
        while True:
            await wait_any(stopping.wait, delivery.wait_room)
            if stopping.is_set():
                break
            await delivery.probe()
            room = delivery.free
            taken = await delivery.take(partial(jobs.claim_due, limit=room, overdue=overdue))
            if taken.claimed < room:
                await wait_any(stopping.wait, woken.wait, seconds=await _seconds_to_wait(pool, overdue))
        nursery.cancel_scope.cancel()


async def _seconds_to_wait(pool: Pool, overdue: timedelta) -> float:
    """Return the seconds until there is something to take, as far as is known now."""
    async with pool.connection() as conn:
        seconds = await jobs.seconds_until_due(conn)
    if seconds is None:
        return _POLL
    return min(_POLL, max(0.05, seconds + overdue.total_seconds()))
