"""Compare passwords with stored hashes so that every comparison that fails takes the same time, whatever is stored.

Otherwise the time of a refused login would tell which addresses have an account, and of what kind.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import bcrypt

if TYPE_CHECKING:
    from regsvc.security.imported.hashes import ImportedHash

_LEAST_COST = 4  # of bcrypt
_NEWEST_WEIGHT = 0.2  # of the latest comparison in the moving estimate
_REMEMBERED = 3600.0  # seconds for which the slowest imported hash counts


@dataclass(frozen=True)
class Compared:
    """Whether a password matched, and the processor seconds that the comparison took."""

    matches: bool
    seconds: float


class Comparisons:
    """Compares in threads, and knows how long it takes.

    Args:
        cost: of our own hashes.
    """

    def __init__(self, cost: int) -> None:
        self._cost = cost
        self._own = 0.0  # seconds of a comparison at our cost; 0 before the first
        self._slowest = 0.0  # seconds of an imported hash that takes longer
        self._slowest_at = -_REMEMBERED

    def compare(self, key: bytes, stored: bytes, cost: int) -> Compared:
        """Compare with a bcrypt string, and top up a lower cost: 2^4 rounds and then 2^4, 2^5 … 2^11 make 2^12."""
        began = time.thread_time()
        matches = bcrypt.checkpw(key, stored)
        for missing in range(cost, self._cost):
            bcrypt.hashpw(key, bcrypt.gensalt(missing))
        seconds = time.thread_time() - began
        if cost <= self._cost:
            self._own += (seconds - self._own) * (_NEWEST_WEIGHT if self._own else 1.0)
        return Compared(matches, seconds)

    def compare_imported(self, stored: ImportedHash, password: bytes) -> Compared:
        """Compare with a hash of another system, and top up one that is quicker than ours."""
        began = time.thread_time()
        matches = stored.matches(password)
        if not self._own:
            self.compare(b"", bcrypt.gensalt(self._cost) + b"." * 31, self._cost)
            return Compared(matches, time.thread_time() - began)
        while (missing := self._own - (time.thread_time() - began)) > 0:
            cost = self._cost
            while cost > _LEAST_COST and self._own / 2 ** (self._cost - cost) > missing:
                cost -= 1
            bcrypt.hashpw(b"", bcrypt.gensalt(cost))
        seconds = time.thread_time() - began
        if seconds > max(self._own * 1.1, self._slowest if self._remembers() else 0.0):
            self._slowest, self._slowest_at = seconds, time.monotonic()
        return Compared(matches, seconds)

    def missing(self, compared: Compared) -> float:
        """Return the seconds to wait after a comparison that failed, for it to take as long as the slowest."""
        return max(0.0, self._slowest - compared.seconds) if self._remembers() else 0.0

    def _remembers(self) -> bool:
        return time.monotonic() - self._slowest_at < _REMEMBERED
