"""A line that is served one owner after the other."""

from __future__ import annotations

import pytest

from regsvc.security.fair_queue import FEW, FairQueue

PLACES = 64


def filled(**lines: int) -> FairQueue[str]:
    """A queue with so many items of each owner, added one owner after the other: `a1`, `a2` …, `b1` …."""
    queue: FairQueue[str] = FairQueue(PLACES)
    for owner, count in lines.items():
        for number in range(1, count + 1):
            queue.add(owner, f"{owner}{number}")
    return queue


def take_all(queue: FairQueue[str]) -> list[str]:
    return [queue.take() for _ in range(len(queue))]


def test_owners_take_turns_whoever_came_first() -> None:
    assert take_all(filled(a=4, b=1, c=2)) == ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]


def test_who_comes_later_is_served_after_one_of_everybody_else() -> None:
    queue = filled(a=30, b=30)
    assert queue.ahead_of("c") == 2
    queue.add("c", "c1")
    assert take_all(queue)[:3] == ["a1", "b1", "c1"]


@pytest.mark.parametrize("mine", range(5))
def test_the_place_that_is_told_is_the_place_that_is_had(mine: int) -> None:
    queue = filled(a=3, me=mine, b=7, c=1)
    ahead = queue.ahead_of("me")
    queue.add("me", "mine")
    assert take_all(queue).index("mine") <= ahead


def test_an_owner_has_few_places_once_the_line_is_half_full() -> None:
    queue = filled(**{f"other{number}": FEW for number in range(PLACES // 2 // FEW)})
    assert len(queue) == PLACES // 2
    for number in range(FEW):
        assert queue.has_place("me")
        queue.add("me", f"me{number}")
    assert not queue.has_place("me")
    assert queue.has_place("another")


def test_no_owner_alone_fills_the_line() -> None:
    queue = filled()
    while queue.has_place("greedy"):
        queue.add("greedy", "x")
    assert len(queue) == PLACES // 8
    assert queue.has_place("another")


def test_the_last_places_are_kept_for_known_clients() -> None:
    queue = filled(**{f"other{number}": 1 for number in range(PLACES - PLACES // 8)})
    assert not queue.has_place("stranger")
    assert queue.has_place("friend", known=True)


def test_where_no_limits_apply_one_may_have_every_place() -> None:
    queue: FairQueue[str] = FairQueue(PLACES)
    for _ in range(PLACES):
        assert queue.has_place(None)
        queue.add(None, "x")
    assert not queue.has_place(None)
    assert not queue.has_place("friend", known=True)


def test_who_gives_up_leaves_the_line_and_others_keep_their_order() -> None:
    queue = filled(a=2, b=2)
    assert queue.remove("a", "a1")
    assert not queue.remove("a", "a1")
    assert not queue.remove("nobody", "a1")
    assert take_all(queue) == ["a2", "b1", "b2"]


def test_an_empty_line_has_nothing_to_take() -> None:
    queue = filled(a=1)
    assert queue.clear() == ["a1"]
    with pytest.raises(IndexError):
        queue.take()
