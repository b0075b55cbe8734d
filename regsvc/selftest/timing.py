"""Test whether two kinds of calls can be told apart by the time they take.

Calls of the two kinds alternate, so that whatever slows down the machine slows down both, and each call is compared
with its neighbour. The sign test assumes nothing about the distribution of times: a few outliers change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

SHARE = 0.05  # share of the median, or …
FLOOR = 0.001  # … seconds, whichever is more: a smaller shift does not count
_CHANCE = 0.001  # probability of a false alarm
FEWEST = 11  # minimum number of samples: that many of one sign have a probability of 1 in 1,024

Verdict = Literal["alike", "unclear", "distinguishable"]


@dataclass(frozen=True)
class Comparison:
    """A comparison of the times of two kinds of calls, in seconds.

    Args:
        medians: of the two kinds.
        shift: median of the differences between neighbours, the second kind minus the first.
        limit: smallest shift that counts.
        chance: probability of so many differences of one sign by chance.
        samples: number for each kind.
    """

    medians: tuple[float, float]
    shift: float
    limit: float
    chance: float
    samples: int

    @property
    def verdict(self) -> Verdict:
        """The verdict; `unclear` if the shift counts but may be chance, and more samples are needed."""
        if abs(self.shift) < self.limit:
            return "alike"
        return "distinguishable" if self.chance < _CHANCE else "unclear"


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compare times that were taken alternately: those at the same position are neighbours."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    medians = median(first), median(second)
    return Comparison(
        medians=medians,
        shift=median(differences),
        limit=max(SHARE * min(medians), FLOOR),
        chance=sign_test(sum(d > 0 for d in differences), sum(d != 0 for d in differences)),
        samples=len(differences),
    )


def sign_test(positive: int, count: int) -> float:
    """Return the probability that `count` fair coins show one side at least as much more often (exact).

    9 of 10: 22 of 1,024, which is 0.021. 31 of 40: 0.0007.
    """
    extreme = max(positive, count - positive)
    tail = sum(math.comb(count, heads) for heads in range(extreme, count + 1))
    return min(1.0, 2 * tail / (1 << count))
