"""What was measured of one call: for every kind of address, the answers and the times that they took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from regsvc.selftest.caller import Reply
from regsvc.selftest.timing import FEWEST, Comparison, Verdict, compare

Kind = Literal["known", "pending", "unknown"]

KINDS: tuple[Kind, ...] = ("known", "pending", "unknown")


@dataclass(frozen=True)
class Sample:
    """What one call brought: its status, everything in its answer that may be compared, and seconds."""

    status: int
    shape: str
    seconds: float


@dataclass
class Measurement:
    """All samples of one call."""

    name: str
    times: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(list))
    shapes: dict[Kind, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    statuses: set[int] = field(default_factory=set)

    def add(self, kind: Kind, sample: Sample) -> None:
        """Count one more sample."""
        self.times[kind].append(sample.seconds)
        self.shapes[kind][sample.shape] += 1
        self.statuses.add(sample.status)

    @property
    def answers_differ(self) -> bool:
        """Whether some kind was answered in a way that another never was."""
        return len({frozenset(shapes) for shapes in self.shapes.values()}) > 1

    def comparisons(self) -> Iterator[tuple[tuple[Kind, Kind], Comparison]]:
        """Yield how each two kinds compare in time, if there are samples enough to tell anything."""
        for first, second in combinations(KINDS, 2):
            if min(len(self.times[first]), len(self.times[second])) >= FEWEST:
                yield (first, second), compare(self.times[first], self.times[second])

    @property
    def verdict(self) -> Verdict:
        """The worst of all its comparisons."""
        found = {comparison.verdict for _, comparison in self.comparisons()}
        if self.answers_differ or "distinguishable" in found:
            return "distinguishable"
        return "unclear" if "unclear" in found else "alike"


def take(reply: Reply) -> Sample:
    """Return the sample that an answer is."""
    return Sample(reply.status, reply.shape, reply.seconds)
