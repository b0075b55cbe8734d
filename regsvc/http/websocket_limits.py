"""Count the websockets and long polls that wait in this process, by registration and by client."""

from __future__ import annotations

from collections import Counter
from typing import Self

from regsvc.errors import RegsvcError

PER_REGISTRATION = 10
PER_CLIENT = 50
PER_SITE = 8 * PER_CLIENT  # of all clients of one IPv6 /48, as for the limits of requests


class TooManyWaitingError(RegsvcError):
    """Too many requests wait for this registration, or from this client. Close one of them."""

    code = "too_many_waiting"


class OpenSockets:
    """Count open websockets and long polls by registration and by client."""

    def __init__(self) -> None:
        self._counts: Counter[object] = Counter()

    def counted(self, key: object, most: float) -> Place:
        """Return what counts one as long as it is entered.

        Args:
            key: what it is counted by.
            most: there may be at a time; entering one more raises `TooManyWaitingError`.
        """
        return Place(self._counts, key, most)


class Place:
    """One waiting request that is counted. There are thousands, and each is as long as its websocket: no generator."""

    __slots__ = ("_counts", "_key", "_most")

    def __init__(self, counts: Counter[object], key: object, most: float) -> None:
        self._counts = counts
        self._key = key
        self._most = most

    def __enter__(self) -> None:
        if self._counts[self._key] >= self._most:
            raise TooManyWaitingError
        self._counts[self._key] += 1

    def __exit__(self, *_: object) -> None:
        self._counts[self._key] -= 1
        if not self._counts[self._key]:
            del self._counts[self._key]


class Places:
    """What one waiting websocket is counted by; left behind the block unless it is kept.

    Args:
        sockets: counts them.
    """

    def __init__(self, sockets: OpenSockets) -> None:
        self._sockets = sockets
        self._entered: list[Place] = []

    def enter(self, key: object, most: float) -> None:
        """Count by one more key.

        Raises:
            TooManyWaitingError: so many are counted by it already.
        """
        place = self._sockets.counted(key, most)
        place.__enter__()
        self._entered.append(place)

    def keep(self) -> list[Place]:
        """Leave it to the caller to leave them."""
        entered, self._entered = self._entered, []
        return entered

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for place in self.keep():
            place.__exit__()
