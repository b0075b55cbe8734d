"""The mailer: has mails sent that are due, straight from PostgreSQL.

Without a broker it takes what is due at once; beside one it takes what has been due for ten seconds, so
that a broker that is gone delays a mail and never stops it. A notification wakes it, a poll makes sure.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import trio

from regsvc.consumer.courier import Courier
from regsvc.consumer.delivery import Taken, probe, take
from regsvc.consumer.due import listen_due
from regsvc.mail.queue import breaker, jobs
from regsvc.postgres.pool import Pool
from regsvc.waiting import Alarm, wait_any

AT_ONCE = timedelta(0)
_POLL = 5.0  # seconds between looks when nothing is known to come due before
_BREATH = 0.05  # seconds between looks at the least
_AGAIN = 0.25  # seconds between looks at what another transaction holds


async def run_mailer(
    *,
    courier: Courier,
    conninfo: str,
    overdue: timedelta,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Claim what is due until `stopping` is set.

    Args:
        courier: sends it.
        conninfo: of the connection that hears of new mails.
        overdue: how long a mail must have been due.
        stopping: ends it.
        task_status: told once it listens.

    Raises:
        DatabaseUnavailableError: there is nothing to take mails from.
    """
    woken = Alarm()
    async with trio.open_nursery() as nursery:
        if overdue == AT_ONCE:
            await nursery.start(listen_due, conninfo, courier.pool, woken)
        task_status.started()
        while True:
            await wait_any(stopping.wait, courier.wait_room)
            if stopping.is_set():
                break
            await probe(courier)
            room = courier.free
            taken = await take(courier, partial(breaker.claim_next, limit=room, overdue=overdue))
            if taken is not None and taken.claimed < room:
                seconds = await _seconds_to_wait(courier.pool, overdue, taken)
                await wait_any(stopping.wait, woken.wait, seconds=seconds)
        nursery.cancel_scope.cancel()


async def _seconds_to_wait(pool: Pool, overdue: timedelta, taken: Taken) -> float:
    """Return the seconds until there is something to take, as far as is known now."""
    if taken.claimed and taken.state.recovered_for is not None:
        return _BREATH
    async with pool.connection() as conn:
        await breaker.note_released(conn, taken.state)
        seconds = await jobs.seconds_until_due(conn)
    if seconds is None:
        return _POLL
    if not taken.claimed and seconds + overdue.total_seconds() <= 0:
        return _AGAIN  # another transaction holds what is due
    return min(_POLL, max(_BREATH, seconds + overdue.total_seconds()))
