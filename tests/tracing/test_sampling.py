"""Which requests are traced, whatever their clients say."""

from __future__ import annotations

import random

from regsvc.tracing.sampling import Sampling


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def count(sampling: Sampling, requests: int, *, flag: bool | None) -> int:
    return sum(sampling.takes(flag=flag) for _ in range(requests))


def test_a_client_that_wants_no_trace_gets_none() -> None:
    sampling = Sampling(ratio=1, per_second=100, clock=Clock())
    assert count(sampling, 50, flag=False) == 0
    assert count(sampling, 50, flag=None) == 50


def test_a_flag_that_is_set_is_drawn_like_a_request_without_one() -> None:
    for flag in (True, None):
        draw = random.Random(7).random
        sampling = Sampling(ratio=0.1, per_second=100_000, draw=draw, clock=Clock())
        assert 900 < count(sampling, 10_000, flag=flag) < 1100


def test_a_flood_of_flags_is_cut_off_and_the_next_second_has_room_again() -> None:
    clock = Clock()
    sampling = Sampling(ratio=1, per_second=20, clock=clock)
    assert count(sampling, 10_000, flag=True) == 20
    clock.now += 0.5
    assert count(sampling, 10_000, flag=True) == 10
    clock.now += 3600
    assert count(sampling, 10_000, flag=True) == 20


def test_a_ratio_of_zero_traces_nothing() -> None:
    assert count(Sampling(ratio=0, per_second=20), 1000, flag=True) == 0
