"""The measurement of one call: replies and times for every kind of address."""

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
    """The result of one call: its status, the comparable parts of its reply, and seconds."""

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
        """Add a sample."""
        self.times[kind].append(sample.seconds)
        self.shapes[kind][sample.shape] += 1
        self.statuses.add(sample.status)

    @property
    def answers_differ(self) -> bool:
        """Whether one kind got a reply that another kind never got."""
        return len({frozenset(shapes) for shapes in self.shapes.values()}) > 1

    def comparisons(self) -> Iterator[tuple[tuple[Kind, Kind], Comparison]]:
        """Yield comparisons of the times of each two kinds, if there are enough samples."""
        for first, second in combinations(KINDS, 2):
            if min(len(self.times[first]), len(self.times[second])) >= FEWEST:
                yield (first, second), compare(self.times[first], self.times[second])

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all comparisons."""
        found = {comparison.verdict for _, comparison in self.comparisons()}
        if self.answers_differ or "distinguishable" in found:
            return "distinguishable"
        return "unclear" if "unclear" in found else "alike"


def take(reply: Reply) -> Sample:
    """Return the sample for a reply."""
    return Sample(reply.status, reply.shape, reply.seconds)
