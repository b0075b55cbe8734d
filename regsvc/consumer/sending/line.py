"""The line of claimed messages in front of the SMTP sessions, fair to recipients' domains.

At most half of the sessions serve one domain, so a slow mail server delays only its own messages. With several routes,
a message that waits for a route that does not answer can be set aside, so that others take the next route meanwhile.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from regsvc.consumer.sending.in_hand import InHand

SLOW: Final = 2.0  # seconds per message, above which its domain counts as slow


class Line:
    """Messages that wait or are being sent, by recipient's domain.

    Args:
        sessions: messages sent concurrently.
        room: messages claimed at most.
    """

    def __init__(self, sessions: int, room: int) -> None:
        self._sessions = sessions
        self._most = max(1, sessions // 2)
        self._room = (
            room if sessions > self._most else 0
        )  # with no session to spare, shedding helps no other domain
        self._waiting: dict[str, deque[tuple[int, InHand]]] = {}
        self._sending: dict[str, dict[InHand, float]] = {}  # start times
        self._aside: set[InHand] = set()
        self._number = 0
        self._changed = trio.Event()

    def put(self, held: InHand) -> None:
        """Append a message."""
        self._number += 1
        self._waiting.setdefault(held.domain, deque()).append((self._number, held))
        self._note_change()

    async def take(self) -> InHand:
        """Wait for the first message whose domain has a free session, and take it; call `done` once it is sent."""
        while True:
            free = [
                (queue[0][0], domain)
                for domain, queue in self._waiting.items()
                if len(self._sending.get(domain, ())) < self._most
            ]
            if free:
                domain = min(free)[1]
                held = self._pop(domain)
                self._sending.setdefault(domain, {})[held] = trio.current_time()
                return held
            await self._changed.wait()

    def done(self, held: InHand) -> bool:
        """Mark a taken message as done, and return whether it was set aside, so that another has its session."""
        if held in self._aside:
            self._aside.discard(held)
            return True
        self._free(held)
        return False

    def set_aside(self) -> int:
        """Free the places of messages that take longer than `SLOW`, and return the count.

        Each may be replaced by another session. A domain gets no more than half of those either.
        """
        late = trio.current_time() - SLOW
        slow = [held for times in self._sending.values() for held, begun in times.items() if begun < late]
        count = 0
        for held in slow:
            of_domain = sum(aside.domain == held.domain for aside in self._aside)
            if len(self._aside) < self._sessions and of_domain < self._most:
                self._aside.add(held)
                self._free(held)
                count += 1
        return count

    def _free(self, held: InHand) -> None:
        times = self._sending[held.domain]
        del times[held]
        if not times:
            del self._sending[held.domain]
        self._note_change()

    def take_all(self) -> list[InHand]:
        """Remove and return all waiting messages, in any order, to release them."""
        return [
            self._pop(domain) for domain in list(self._waiting) for _ in range(len(self._waiting[domain]))
        ]

    def take_excess(self) -> list[InHand]:
        """Remove and return what slow domains hold beyond half of the room, to release it for other domains."""
        late = trio.current_time() - SLOW
        slow = [domain for domain, times in self._sending.items() if min(times.values()) < late]
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
