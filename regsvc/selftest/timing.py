"""Whether two kinds of calls can be told apart by the time that they take.

Calls of the two kinds are made in turns, so that whatever slows a machine down slows both, and each one is compared
with its neighbour. The sign test asks nothing of how times are distributed: a few that took seconds change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

SHARE = 0.05  # of the median, or …
FLOOR = 0.001  # … seconds, whichever is more: a smaller shift is none
_CHANCE = 0.001  # of telling two apart that are alike
FEWEST = 11  # samples that can be told apart at all: of one sign, they are one in 1,024

Verdict = Literal["alike", "unclear", "distinguishable"]


@dataclass(frozen=True)
class Comparison:
    """How the times of two kinds of calls compare, in seconds.

    Args:
        medians: of the two.
        shift: the median of the differences between neighbours, the second kind less the first.
        limit: from which on a shift counts.
        chance: how often luck alone brings so many differences of one sign.
        samples: of each kind.
    """

    medians: tuple[float, float]
    shift: float
    limit: float
    chance: float
    samples: int

    @property
    def verdict(self) -> Verdict:
        """`unclear`: the shift counts, but may be luck; more samples would tell."""
        if abs(self.shift) < self.limit:
            return "alike"
        return "distinguishable" if self.chance < _CHANCE else "unclear"


def compare(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Compare times that were taken in turns: those of one position are neighbours."""
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
    """Return how often `count` fair coins show a side at least as much more often than the other (exactly).

    9 of 10: 22 of 1,024, which is 0.021. 31 of 40: 0.0007.
    """
    extreme = max(positive, count - positive)
    tail = sum(math.comb(count, heads) for heads in range(extreme, count + 1))
    return min(1.0, 2 * tail / (1 << count))
