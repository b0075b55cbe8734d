"""Traffic that does not stop while something fails, and a record of how every call went."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import trio

_PAUSE = 0.02  # seconds between two calls of one kind

Call = Callable[[], Awaitable[httpx.Response]]


@dataclass(frozen=True)
class Outcome:
    """How one call went.

    Args:
        name: of the call.
        status: of the answer; 0 if there was none.
        text: of the answer, or what went wrong.
        began: by Trio's clock.
        ended: by Trio's clock.
    """

    name: str
    status: int
    text: str
    began: float
    ended: float


@dataclass(eq=False)
class Traffic:
    """What happened so far."""

    outcomes: list[Outcome] = field(default_factory=list)
    _came: trio.Event = field(default_factory=trio.Event)

    def statuses(self, name: str | None = None) -> Counter[int]:
        """Count the answers, of one kind of call or of all."""
        return Counter(outcome.status for outcome in self.outcomes if name in {None, outcome.name})

    def of(self, status: int) -> list[Outcome]:
        """Return the calls that were answered with a status."""
        return [outcome for outcome in self.outcomes if outcome.status == status]

    async def wait(self, name: str, status: int, *, since: float) -> Outcome:
        """Wait for an answer to a call that began after a moment."""
        with trio.move_on_after(20):
            while True:
                for outcome in self.outcomes:
                    if (outcome.name, outcome.status) == (name, status) and outcome.began >= since:
                        return outcome
                await self._came.wait()
        raise AssertionError(f"{name}: no {status}, but {self.statuses(name)}: {self.outcomes[-1]}")

    async def repeat(self, name: str, call: Call) -> None:
        """Make a call again and again until cancelled."""
        while True:
            began = trio.current_time()
            try:
                answer = await call()
            except httpx.TransportError as error:
                status, text = 0, repr(error)
            else:
                status, text = answer.status_code, answer.text
            self.outcomes.append(Outcome(name, status, text, began, trio.current_time()))
            self._came.set()
            self._came = trio.Event()
            await trio.sleep(_PAUSE)


@asynccontextmanager
async def run_traffic(calls: Mapping[str, Call]) -> AsyncIterator[Traffic]:
    """Make every call again and again, all kinds side by side, as long as the block lasts."""
    traffic = Traffic()
    async with trio.open_nursery() as nursery:
        for name, call in calls.items():
            nursery.start_soon(traffic.repeat, name, call)
        yield traffic
        nursery.cancel_scope.cancel()
