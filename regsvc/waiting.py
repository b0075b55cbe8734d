"""Wait for the first of several events, and for an event that repeats."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import trio


async def wait_any(*waits: Callable[[], Awaitable[object]], seconds: float = float("inf")) -> None:
    """Wait until the first of these returns or the seconds are over, and cancel the others.

    Only for waits that lose nothing when cancelled: for an event, for room, for a notification.
    """
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:

            async def wait_one(wait: Callable[[], Awaitable[object]]) -> None:
                await wait()
                nursery.cancel_scope.cancel()

            for wait in waits:
                nursery.start_soon(wait_one, wait)


class Alarm:
    """An event that repeats. One that comes while no task waits is kept."""

    def __init__(self) -> None:
        self._came = trio.Event()

    async def wait(self) -> None:
        """Wait until the alarm sounds. Return at once if it has sounded since the last wait."""
        await self._came.wait()
        self._came = trio.Event()

    def sound(self) -> None:
        """Wake the waiting tasks."""
        self._came.set()


# Linux's monotonic clock stops while a machine is suspended; the database's does not. On macOS it runs on.
_LEASE_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_time() -> float:
    """Return a clock's seconds that, unlike Trio's, also pass while the machine is suspended."""
    return time.clock_gettime(_LEASE_CLOCK)
