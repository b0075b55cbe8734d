"""The mailer: claims due messages straight from PostgreSQL.

Without a broker it takes due messages at once. Beside a broker it takes messages unclaimed for ten seconds, so a lost
broker delays mail and never stops it. Notifications wake it; a poll guarantees progress.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import trio

from regsvc.consumer.sending.courier import Courier
from regsvc.consumer.sending.delivery import Taken, probe, take
from regsvc.jobs.claims import seconds_until_due
from regsvc.jobs.due import listen_due
from regsvc.mail.queue import breaker
from regsvc.mail.queue.jobs import MAIL_JOBS
from regsvc.mail.queue.precedence import Precedence
from regsvc.mail.queue.verdict import Breaker
from regsvc.postgres.pool import Pool
from regsvc.waiting import Alarm, wait_any

AT_ONCE = timedelta(0)
_POLL = 5.0  # seconds between polls when nothing is due earlier
_BREATH = 0.05  # seconds between polls at least
_SOON = 0.5  # seconds after a claim until the database is asked what is due next
_AGAIN = 0.25  # seconds until rows held by another transaction are polled again


async def run_mailer(
    *,
    courier: Courier,
    conninfo: str,
    overdue: timedelta,
    stopping: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Claim due messages until `stopping` is set.

    Args:
        courier: sends the messages.
        conninfo: of the connection that receives notifications.
        overdue: how long a message must have been due.
        stopping: ends the mailer.
        task_status: reports the start of listening.

    Raises:
        DatabaseUnavailableError: the database is unavailable.
    """
    woken, precedence = Alarm(), Precedence()
    async with trio.open_nursery() as nursery:
        if overdue == AT_ONCE:
            await nursery.start(listen_due, conninfo, courier.pool, MAIL_JOBS, woken)
        task_status.started()
        while True:
            await wait_any(stopping.wait, courier.wait_room)
            if stopping.is_set():
                break
            room = courier.free
            taken = await take(
                courier, partial(breaker.claim_next, limit=room, overdue=overdue, precedence=precedence)
            )
            if taken is None:
                continue
            if taken.state.open or taken.state.failures:
                await probe(courier)
            if taken.claimed < room and not (
                taken.claimed and await _is_woken_soon(stopping, woken, taken.state)
            ):
                seconds = await _seconds_to_wait(courier.pool, overdue, taken)
                await wait_any(stopping.wait, woken.wait, seconds=seconds)
        nursery.cancel_scope.cancel()


async def _is_woken_soon(stopping: trio.Event, woken: Alarm, state: Breaker) -> bool:
    """Return whether another mail, or the end, comes within a moment: the next claim shows what is due anyway.

    Nothing that was just claimed is due again within that moment.
    """
    if state.open or state.failures or state.recovered_for is not None:
        return False  # a probe may be due, or more be released
    came = False

    async def wait() -> None:
        nonlocal came
        await woken.wait()
        came = True

    await wait_any(stopping.wait, wait, seconds=_SOON)
    return came or stopping.is_set()


async def _seconds_to_wait(pool: Pool, overdue: timedelta, taken: Taken) -> float:
    """Return the seconds until a message is expected to be due."""
    if taken.claimed and taken.state.recovered_for is not None:
        return _BREATH
    async with pool.connection() as conn:
        await breaker.note_released(conn, taken.state)
        seconds = await seconds_until_due(conn, MAIL_JOBS)
    if seconds is None:
        return _POLL
    if not taken.claimed and seconds + overdue.total_seconds() <= 0:
        return _AGAIN  # another transaction holds what is due
    return min(_POLL, max(_BREATH, seconds + overdue.total_seconds()))
