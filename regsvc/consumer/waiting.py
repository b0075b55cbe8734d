"""Waiting: for whichever comes first, and for mails that come due."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from regsvc.mail.jobs import DUE_CHANNEL
from regsvc.postgres.connection import Connection


async def wait_any(*waits: Callable[[], Awaitable[object]], seconds: float = float("inf")) -> None:
    """Wait until the first of these returns, or the seconds are over; the others are cancelled.

    Only for what may be cancelled without loss: waiting for an event, for room, for a notification.
    """
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:

            async def wait_one(wait: Callable[[], Awaitable[object]]) -> None:
                await wait()
                nursery.cancel_scope.cancel()

            for wait in waits:
                nursery.start_soon(wait_one, wait)


class Alarm:
    """An event that can come again; one that came while nobody waited is kept."""

    def __init__(self) -> None:
        self._came = trio.Event()

    async def wait(self) -> None:
        """Wait until the alarm sounds, or return at once when it did since the last wait."""
        await self._came.wait()
        self._came = trio.Event()

    def sound(self) -> None:
        """Wake whoever waits."""
        self._came.set()


async def listen_due(
    conninfo: str, alarm: Alarm, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Sound an alarm whenever a mail comes due by a new sign-up; started once it listens.

    Raises:
        psycopg.OperationalError: the connection cannot be made or is lost.
    """
    async with await Connection.connect(conninfo, application_name="regsvc due mails") as conn:
        await conn.execute(f"LISTEN {DUE_CHANNEL}")
        task_status.started()
        while True:
            await conn.wait_notifications()
            alarm.sound()
