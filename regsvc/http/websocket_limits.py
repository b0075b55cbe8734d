"""Count the websockets and long polls that wait in this process, by registration and by client."""

from __future__ import annotations

from collections import Counter

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
