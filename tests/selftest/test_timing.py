from __future__ import annotations

from random import Random

import pytest

from regsvc.selftest.timing import compare, sign_test


@pytest.mark.parametrize(
    ("positive", "count", "chance"),
    [(0, 0, 1), (1, 1, 1), (5, 10, 1), (9, 10, 22 / 1024), (1, 10, 22 / 1024), (11, 11, 2 / 2048)],
)
def test_luck_is_what_fair_coins_bring(positive: int, count: int, chance: float) -> None:
    assert sign_test(positive, count) == pytest.approx(chance)


def noisy(random: Random, *, slower: float = 0.0) -> float:
    """Return seconds as a busy machine takes them: half of the calls wait for their turn, some of them long."""
    return 0.050 + slower + random.choice((0, 0, 1, 1, 10)) * random.expovariate(1 / 0.004)


def series(random: Random, count: int, *, slower: float = 0.0) -> tuple[list[float], list[float]]:
    """Return times of two kinds of calls on a machine that also gets slower and slower."""
    pairs = [
        (noisy(random) * (1 + n / count), noisy(random, slower=slower) * (1 + n / count))
        for n in range(count)
    ]
    return [first for first, _ in pairs], [second for _, second in pairs]


def test_noise_alone_never_tells_two_kinds_apart() -> None:
    random = Random(1)
    verdicts = [compare(*series(random, count)).verdict for _ in range(300) for count in (11, 40)]
    assert "distinguishable" not in verdicts


def test_a_leak_is_found_through_the_noise() -> None:
    random = Random(2)
    assert {compare(*series(random, 300, slower=0.005)).verdict for _ in range(50)} == {"distinguishable"}
    assert compare(*reversed(series(random, 300, slower=0.005))).shift < -0.004


def test_a_few_samples_find_what_a_missing_hash_would_show() -> None:
    random = Random(3)
    assert {compare(*series(random, 20, slower=0.1)).verdict for _ in range(50)} == {"distinguishable"}


def test_a_shift_below_a_millisecond_or_5_percent_is_none() -> None:
    assert compare([0.0020] * 50, [0.0029] * 50).verdict == "alike"
    assert compare([0.0020] * 50, [0.0031] * 50).verdict == "distinguishable"
    assert compare([0.100] * 50, [0.1049] * 50).verdict == "alike"
    assert compare([0.100] * 50, [0.1051] * 50).verdict == "distinguishable"


def test_a_shift_that_may_be_luck_is_unclear() -> None:
    assert compare([0.1, 0.2] * 6, [0.2, 0.1] * 5 + [0.2, 0.3]).verdict == "unclear"
