"""Which requests are traced: a random share of them, and only so many a second."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Sampling:
    """Decides for each request.

    A client chooses its trace id and its flag `sampled`. Neither may fill the collector: the share is drawn at random,
    not from the trace id, and a flag that is set counts no more than none. A flag that is not set is heeded.

    Args:
        ratio: share of requests that are traced, 0 to 1.
        per_second: traces a second at most, on average; as many may begin at the same moment.
        draw: returns a random number from 0 to below 1.
        clock: returns seconds.
    """

    def __init__(
        self,
        *,
        ratio: float,
        per_second: int,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ratio = ratio
        self._per_second = per_second
        self._draw = draw
        self._clock = clock
        self._left = float(per_second)
        self._counted_at = clock()

    def takes(self, *, flag: bool | None) -> bool:
        """Return whether a request is traced.

        Args:
            flag: whether the client's `traceparent` says that it was recorded; None without one.
        """
        if flag is False or self._draw() >= self._ratio:
            return False
        now = self._clock()
        self._left = min(self._per_second, self._left + (now - self._counted_at) * self._per_second)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
