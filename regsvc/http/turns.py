"""Turns of clients: how many requests of one client are worked on at the same time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from quart import g

from regsvc.http.websocket_limits import TooManyWaitingError

AT_ONCE = 32
PATIENCE = 5.0  # seconds


class Turns:
    """Bound the requests of each client that are worked on at the same time; its further ones wait.

    Otherwise the requests of a client with thousands of connections stand in line for the database before those of
    all other clients.

    Args:
        at_once: requests of one client.
        patience: seconds for which a further one waits.
    """

    def __init__(self, at_once: int = AT_ONCE, patience: float = PATIENCE) -> None:
        self._at_once = at_once
        self._patience = patience
        self._clients: dict[str, trio.Semaphore] = {}

    @asynccontextmanager
    async def taken(self, client: str) -> AsyncIterator[Callable[[], None]]:
        """Hold a turn for the block.

        Yields:
            What gives the turn back early; calling it again does nothing.

        Raises:
            TooManyWaitingError: none came in time.
        """
        turns = self._clients.get(client)
        if turns is None:
            turns = self._clients[client] = trio.Semaphore(self._at_once, max_value=self._at_once)
        await self._wait(turns)
        held = True

        def end() -> None:
            nonlocal held
            if held:
                held = False
                turns.release()
                if turns.value == self._at_once:
                    del self._clients[client]

        try:
            yield end
        finally:
            end()

    async def _wait(self, turns: trio.Semaphore) -> None:
        try:
            turns.acquire_nowait()
        except trio.WouldBlock:
            with trio.move_on_after(self._patience) as waiting:
                await turns.acquire()
            if waiting.cancelled_caught:
                raise TooManyWaitingError from None


def end_turn() -> None:
    """Give the current request's turn back: it only waits from now on, and is counted by how many wait."""
    if "end_turn" in g:
        g.end_turn()
