"""What the mail servers of a stage are told to do wrong, so many times over all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import trio

from tests.smtp_servers import Reaction


class Mischief(Mapping[str, "Reaction"]):
    """A script for mail servers whose reactions are used up."""

    def __init__(self) -> None:
        self._armed: dict[str, tuple[Reaction, int]] = {}
        self._changed = trio.Event()

    def arm(self, step: str, reaction: Reaction, times: int = 1) -> None:
        """React like this at the next so many occurrences of a step."""
        self._armed[step] = reaction, times

    def disarm(self) -> None:
        """Behave."""
        self._armed.clear()

    async def wait_done(self, step: str) -> None:
        """Wait until what a step was armed with is used up."""
        while step in self._armed:
            await self._changed.wait()

    def __getitem__(self, step: str) -> Reaction:
        """Use up one reaction; a server asks for it when it is about to act on it."""
        reaction, times = self._armed.pop(step)
        if times > 1:
            self._armed[step] = reaction, times - 1
        self._changed.set()
        self._changed = trio.Event()
        return reaction

    def __iter__(self) -> Iterator[str]:
        """Name the steps that are armed."""
        return iter(self._armed)

    def __len__(self) -> int:
        """Count them."""
        return len(self._armed)
