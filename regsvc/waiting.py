"""Waiting: for whichever comes first, and for what comes again and again."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import trio


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


# Linux' monotonic clock stands still while a machine is suspended; the database's does not. macOS has one that goes on.
_LEASE_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_time() -> float:
    """Return seconds that also pass while the machine is suspended, as Trio's do not."""
    return time.clock_gettime(_LEASE_CLOCK)
