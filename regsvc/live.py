"""The live hub: who waits for which registration in this process.

One child hears of changes from the database and calls `announce`; sockets and long polls hold a `Waiter`. The hub
carries no truth, only the advice to read it again, so that nothing is wrong when advice is lost or doubled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import trio


class Waiter:
    """One who waits; `wait_change` returns when the registration may have changed since the last call.

    `seen` is the number of the change that was read last, 0 before the first.
    """

    __slots__ = ("_changed", "seen")

    def __init__(self) -> None:
        self._changed = trio.Event()
        self.seen = 0

    async def wait_change(self) -> None:
        """Wait for advice to look again; advice that came in between counts."""
        await self._changed.wait()
        self._changed = trio.Event()

    def wake(self) -> None:
        """Advise this one to look again."""
        self._changed.set()


@dataclass(frozen=True)
class HubStatistics:
    """How many wait for how many registrations."""

    waiters: int
    registrations: int


class LiveHub:
    """Registration id → those who wait for it."""

    def __init__(self) -> None:
        self._waiters: dict[UUID, set[Waiter]] = {}
        self._doubted = trio.Event()

    @contextmanager
    def waiting(self, registration_id: UUID) -> Iterator[Waiter]:
        """Wait for a registration as long as the block lasts."""
        waiter = Waiter()
        self._waiters.setdefault(registration_id, set()).add(waiter)
        try:
            yield waiter
        finally:
            waiters = self._waiters[registration_id]
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[registration_id]

    def announce(self, registration_id: UUID) -> None:
        """Advise everyone who waits for a registration to look again."""
        for waiter in self._waiters.get(registration_id, ()):
            waiter.wake()

    def doubt(self) -> None:
        """Say that changes may have been missed."""
        self._doubted.set()

    async def wait_doubt(self) -> None:
        """Wait until changes may have been missed; a doubt that came in between counts."""
        await self._doubted.wait()
        self._doubted = trio.Event()

    def watched(self) -> dict[UUID, int]:
        """Return the registrations that are waited for, and up to which change all who wait have read them."""
        return {
            registration_id: min(seen)
            for registration_id, waiters in self._waiters.items()
            if (seen := [waiter.seen for waiter in waiters if waiter.seen])
        }

    def statistics(self) -> HubStatistics:
        """Return a snapshot."""
        return HubStatistics(sum(len(w) for w in self._waiters.values()), len(self._waiters))
