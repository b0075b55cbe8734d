"""The live hub: which sockets and long polls wait for which registration in this process.

A child receives changes from the database and calls `announce`; sockets and long polls wait here. The hub only
advises them to read the registration again, so a lost or repeated notification does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, Protocol
from uuid import UUID

import trio


class Wakeable(Protocol):
    """What waits.

    Attributes:
        seen: the number of the last change that was read, 0 before the first.
        sent: whether what was read last waits for no message any more.
    """

    seen: int
    sent: bool

    def wake(self) -> None:
        """Take the advice to read again."""


class Waiter:
    """A waiting socket or long poll. `wait_change` returns when the registration may have changed since the last call.

    `seen` is the number of the last change that was read, 0 before the first.
    """

    __slots__ = ("_changed", "seen", "sent")

    def __init__(self) -> None:
        self._changed = trio.Event()
        self.seen = 0
        self.sent = False

    async def wait_change(self) -> None:
        """Wait for advice to read again. Advice since the last call counts."""
        await self._changed.wait()
        self._changed = trio.Event()

    def wake(self) -> None:
        """Advise this waiter to read again."""
        self._changed.set()


@dataclass(frozen=True)
class HubStatistics:
    """Numbers of waiters and of the registrations they wait for."""

    waiters: int
    registrations: int


GLANCE: Final = 5.0
"""Seconds for which a look without waiting counts as waiting: a page without scripts looks again meanwhile."""
_GLANCES: Final = 1_000


class LiveHub:
    """Waiters by registration id."""

    def __init__(self) -> None:
        self._glances: dict[UUID, float] = {}
        self._waiters: dict[UUID, set[Wakeable]] = {}
        self._doubted = trio.Event()

    @contextmanager
    def waiting(self, registration_id: UUID) -> Iterator[Waiter]:
        """Yield a waiter for a registration, for the duration of the block."""
        waiter = Waiter()
        self.join(registration_id, waiter)
        try:
            yield waiter
        finally:
            self.leave(registration_id, waiter)

    def join(self, registration_id: UUID, waiter: Wakeable) -> None:
        """Add a waiter of a registration, until `leave`."""
        self._waiters.setdefault(registration_id, set()).add(waiter)

    def leave(self, registration_id: UUID, waiter: Wakeable) -> None:
        """Remove a waiter."""
        waiters = self._waiters[registration_id]
        waiters.discard(waiter)
        if not waiters:
            del self._waiters[registration_id]

    def announce(self, registration_id: UUID) -> None:
        """Advise all waiters of a registration to read it again."""
        for waiter in tuple(self._waiters.get(registration_id, ())):
            waiter.wake()

    def doubt(self) -> None:
        """Record that changes may have been missed."""
        self._doubted.set()

    async def wait_doubt(self) -> None:
        """Wait until changes may have been missed. A doubt since the last call counts."""
        await self._doubted.wait()
        self._doubted = trio.Event()

    def watched(self) -> dict[UUID, int]:
        """Return each awaited registration with the number of the last change that all its waiters have read."""
        return {
            registration_id: min(seen)
            for registration_id, waiters in self._waiters.items()
            if (seen := [waiter.seen for waiter in waiters if waiter.seen])
        }

    def glance(self, registration_id: UUID) -> None:
        """Note that a client looks at a registration whose message is not sent, and will look again soon."""
        self._glances.pop(registration_id, None)
        self._glances[registration_id] = trio.current_time() + GLANCE
        while len(self._glances) > _GLANCES:
            del self._glances[next(iter(self._glances))]

    def list_unsent(self, most: int) -> list[UUID]:
        """Return registrations whose clients wait for a message that is not sent, the newest waiters first."""
        now = trio.current_time()
        self._glances = {which: until for which, until in self._glances.items() if until > now}
        waiting = (
            registration_id
            for registration_id in reversed(self._waiters)
            if any(not waiter.sent for waiter in self._waiters[registration_id])
        )
        return list(islice(dict.fromkeys(chain(reversed(self._glances), waiting)), most))

    @property
    def has_waiters(self) -> bool:
        """Whether anything waits."""
        return bool(self._waiters)

    def statistics(self) -> HubStatistics:
        """Return a snapshot of the counts."""
        return HubStatistics(sum(len(w) for w in self._waiters.values()), len(self._waiters))
