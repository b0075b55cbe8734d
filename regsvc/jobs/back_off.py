"""The retry policy of jobs: pure functions, without a clock or a database."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class BackOff:
    """Growing pauses between the attempts of a job, and its end.

    Args:
        delays: seconds after the first, second … failed attempt; the last one is repeated.
        jitter: part by which a pause is shortened or lengthened at random, so that what failed together does not
            come back together.
        give_up: age at which a job is given up: an attempt after that is its last.
    """

    delays: Sequence[float]
    jitter: float
    give_up: timedelta

    def delay(self, attempt: int, *, rng: random.Random | None = None) -> timedelta:
        """Return how long to wait after a failed attempt.

        Args:
            attempt: number of attempts so far, from 1.
            rng: source of the jitter.
        """
        base = self.delays[min(max(attempt, 1), len(self.delays)) - 1]
        return timedelta(seconds=base * (rng or random).uniform(1 - self.jitter, 1 + self.jitter))

    def next_delay(
        self, attempt: int, age: timedelta, *, rng: random.Random | None = None
    ) -> timedelta | None:
        """Return how long to wait after a failed attempt, or None if the job is given up.

        Args:
            attempt: number of attempts so far, from 1.
            age: of the job.
            rng: source of the jitter.
        """
        return None if age >= self.give_up else self.delay(attempt, rng=rng)
