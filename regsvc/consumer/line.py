"""The line of claimed mails in front of the sessions, fair to receivers.

No more than half of the sessions serve one receiver's domain: a server that takes half a minute for each answer holds
up its own mails and no others.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from regsvc.consumer.outcomes import InHand

SLOW: Final = 2.0  # seconds that a mail takes, after which its domain counts as slow


class Line:
    """What waits to be sent and what is being sent, by the receiver's domain.

    Args:
        sessions: how many mails are sent at the same time.
        room: how many mails may be in hand.
    """

    def __init__(self, sessions: int, room: int) -> None:
        self._most = max(1, sessions // 2)
        self._room = room if sessions > self._most else 0  # where no session is spared, others gain nothing
        self._waiting: dict[str, deque[tuple[int, InHand]]] = {}
        self._sending: dict[str, list[float]] = {}  # when each of them began
        self._number = 0
        self._changed = trio.Event()

    def put(self, held: InHand) -> None:
        """Add a mail at the end."""
        self._number += 1
        self._waiting.setdefault(held.domain, deque()).append((self._number, held))
        self._note_change()

    async def take(self) -> InHand:
        """Wait for the first mail whose domain has a session to spare, and take it; call `done` when it is sent."""
        while True:
            free = [
                (queue[0][0], domain)
                for domain, queue in self._waiting.items()
                if len(self._sending.get(domain, ())) < self._most
            ]
            if free:
                domain = min(free)[1]
                held = self._pop(domain)
                self._sending.setdefault(domain, []).append(trio.current_time())
                return held
            await self._changed.wait()

    def done(self, held: InHand) -> None:
        """Note that a mail that was taken is not being sent any more."""
        times = self._sending[held.domain]
        times.pop(0)  # which of them does not matter
        if not times:
            del self._sending[held.domain]
        self._note_change()

    def take_all(self) -> list[InHand]:
        """Take what waits, in no order, to give it back."""
        return [
            self._pop(domain) for domain in list(self._waiting) for _ in range(len(self._waiting[domain]))
        ]

    def take_excess(self) -> list[InHand]:
        """Take what slow domains have in hand beyond half of the room, to give it back: others may be claimed then."""
        late = trio.current_time() - SLOW
        slow = [domain for domain, times in self._sending.items() if times[0] < late]
        excess: list[InHand] = []
        for domain in slow if self._room else ():
            kept = max(self._room // 2 // len(slow) - self._most, self._most)
            spare = len(self._waiting.get(domain, ())) - kept
            excess += [self._pop(domain, last=True) for _ in range(spare)]
        return excess

    def _pop(self, domain: str, *, last: bool = False) -> InHand:
        queue = self._waiting[domain]
        _, held = queue.pop() if last else queue.popleft()
        if not queue:
            del self._waiting[domain]
        return held

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
