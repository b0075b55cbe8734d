"""The estimate of a password's strength is bounded in work, whatever is typed."""

from __future__ import annotations

import pytest
from zxcvbn import matching  # type: ignore[import-untyped]

from regsvc.security.strength import _bound, rate_password

# Characters that can be read as letters in several ways: the estimate tries every combination.
CRAFTED = ["4@8({[<3 6 9 1!|0 $5 7+ %24@8({[<3 6 9 1", "1!|l7+$5@4({[<0o" * 2, "({[<|1!7+@4$5" * 3]
MOST = 16  # combinations


def count_readings(password: str) -> int:
    table = matching.relevant_l33t_subtable(password, matching.L33T_TABLE)
    return len(matching.enumerate_l33t_subs(table))


@pytest.mark.parametrize("crafted", CRAFTED, ids=range(len(CRAFTED)))
def test_crafted_characters_are_read_in_one_way(crafted: str) -> None:
    assert count_readings(crafted) > MOST
    assert count_readings(_bound(crafted)) <= MOST


async def test_a_word_in_signs_is_still_as_weak_as_the_word() -> None:
    assert await rate_password("p4$$w0rd") == await rate_password("password") == 0
    assert await rate_password("correct horse battery staple yes") == 4
