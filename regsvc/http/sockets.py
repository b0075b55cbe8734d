"""How many websockets this process holds open, and for whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from regsvc.errors import RegsvcError

PER_REGISTRATION = 10
PER_CLIENT = 50


class TooManySocketsError(RegsvcError):
    """Too many websockets are open for this registration, or from this client."""


class OpenSockets:
    """Counts open websockets by whatever they are counted by."""

    def __init__(self) -> None:
        self._counts: Counter[object] = Counter()

    @contextmanager
    def counted(self, key: object, most: float) -> Iterator[None]:
        """Count one as long as the block lasts.

        Args:
            key: what it is counted by.
            most: there may be at a time.

        Raises:
            TooManySocketsError: there are as many.
        """
        if self._counts[key] >= most:
            raise TooManySocketsError
        self._counts[key] += 1
        try:
            yield
        finally:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
