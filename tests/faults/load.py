"""Sign-ups over HTTP at a steady pace, and how each was answered."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import trio

from tests.services import PASSWORD

_AT_ONCE = 60  # calls that may wait for their answer


@dataclass(frozen=True)
class SignUp:
    """How one sign-up went.

    Args:
        tag: of the fault that was going on.
        address: that was given.
        status: of the answer; 0 when none came, and nobody can know.
        registration_id: that the answer names.
        at: when it was sent, by Trio's clock.
        seconds: until the answer.
    """

    tag: str
    address: str
    status: int
    registration_id: str | None
    at: float
    seconds: float


class Load:
    """Sends sign-ups to several processes in turn.

    Args:
        urls: of the processes.
        pace: sign-ups a second.
    """

    def __init__(self, urls: Sequence[str], pace: float) -> None:
        self.pace = pace
        self.tag = "none"
        self.outcomes: list[SignUp] = []
        self._urls = itertools.cycle(urls)
        self._numbers = itertools.count(1)
        self._flowing = trio.Event()
        self._in_flight = 0
        self._sent: Counter[str] = Counter()
        self._settled = trio.Event()

    def go(self) -> None:
        """Begin, or go on."""
        self._flowing.set()

    async def wait_sent(self, tag: str, count: int) -> None:
        """Wait until so many sign-ups of one tag were sent and one was answered since."""
        while self._sent[tag] < count:
            await self._settled.wait()

    async def pause(self) -> None:
        """Send no more, and wait until all that were sent are answered or given up."""
        if self._flowing.is_set():  # else somebody waits for the event that is there
            self._flowing = trio.Event()
        while self._in_flight:
            await self._settled.wait()

    async def run(self) -> None:
        """Sign people up until cancelled, whenever it is not paused."""
        limits = httpx.Limits(max_connections=_AT_ONCE, max_keepalive_connections=8)
        async with (
            httpx.AsyncClient(timeout=20, limits=limits) as client,
            trio.open_nursery() as nursery,
        ):
            while True:
                await self._flowing.wait()
                if self._in_flight < _AT_ONCE:
                    self._in_flight += 1
                    self._sent[self.tag] += 1
                    nursery.start_soon(self._sign_up, client, next(self._urls), self.tag)
                await trio.sleep(1 / self.pace)

    async def _sign_up(self, client: httpx.AsyncClient, url: str, tag: str) -> None:
        address = f"{tag}.{next(self._numbers)}@example.com"
        began = trio.current_time()
        status, location = 0, ""
        try:
            answer = await client.post(
                f"{url}/api/v1/register", json={"email": address, "password": PASSWORD, "name": "Ann"}
            )
            status, location = answer.status_code, answer.headers.get("Location", "")
        except httpx.TransportError:
            pass  # nobody knows
        finally:
            self._in_flight -= 1
            self._settled.set()
            self._settled = trio.Event()
        registration_id = location.rpartition("/")[2] if status == 201 else None
        self.outcomes.append(
            SignUp(tag, address, status, registration_id, began, trio.current_time() - began)
        )
