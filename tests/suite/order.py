"""The order of the tests of a parallel run: no long one begins when the others have ended.

xdist's `worksteal` gives each worker an equal share of neighbouring tests, and lets workers that are done steal from
the end of others' shares. So each share begins with some of the longest files, and ends with short tests. The tests
of a file stay together, since they share what their module starts, such as a browser.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TypeVar

import pytest

from tests.suite.run import count_workers
from tests.suite.weights import weigh

T = TypeVar("T")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests, alike in all processes of a run."""
    workers = count_workers(config)
    if workers == 1:
        return
    groups: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        # One worker, and not each, shall start a broker for them.
        own = item.get_closest_marker("own_broker")
        groups["own_broker" if own else item.nodeid.partition("::")[0]].append(item)
    items[:] = deal([(weigh(name, len(group)), group) for name, group in groups.items()], workers)


def deal(groups: list[tuple[float, list[T]]], hands: int) -> list[T]:
    """Deal groups into as many equal shares, which the result has one after the other.

    Args:
        groups: of what stays together, with their weights. The heaviest come first, each to the lightest share
            that has room; one that does not fit goes on in the next.
        hands: how many shares.
    """
    left_over = sum(len(group) for _, group in groups)
    shares: list[list[T]] = [[] for _ in range(hands)]
    room: list[int] = []
    for takers in range(
        hands, 0, -1
    ):  # as xdist divides: each takes its part of what the ones before it left
        room.append(left_over // takers)
        left_over -= room[-1]
    weights = [0.0] * hands
    for weight, group in sorted(groups, key=lambda entry: -entry[0]):
        left = group
        while left:
            hand = min((hand for hand in range(hands) if room[hand]), key=lambda hand: weights[hand])
            part, left = left[: room[hand]], left[room[hand] :]
            shares[hand] += part
            room[hand] -= len(part)
            weights[hand] += weight * len(part) / len(group)
    return [item for share in shares for item in share]
