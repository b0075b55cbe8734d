from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.suite.order import deal
from tests.suite.weights import read_weights, sum_up

ROOT = Path(__file__).parents[2]


@given(
    weights=st.lists(st.tuples(st.floats(0, 600), st.integers(1, 20)), max_size=40), hands=st.integers(1, 8)
)
def test_every_test_is_dealt_once_and_shares_are_as_xdist_divides(
    weights: list[tuple[float, int]], hands: int
) -> None:
    groups = [(weight, [(group, n) for n in range(count)]) for group, (weight, count) in enumerate(weights)]
    dealt = deal(groups, hands)
    assert sorted(dealt) == sorted(item for _, group in groups for item in group)


def test_the_longest_begin_every_share_and_a_file_stays_together() -> None:
    groups = [(float(10 - n), [f"file {n} test {m}" for m in range(3)]) for n in range(8)]
    dealt = deal(groups, 4)
    assert [dealt[at][:6] for at in (0, 6, 12, 18)] == ["file 0", "file 1", "file 2", "file 3"]
    for at in range(0, 24, 3):
        assert len({item[:6] for item in dealt[at : at + 3]}) == 1


def test_weights_are_of_files_that_there_are() -> None:
    assert [name for name in read_weights() if not (ROOT / name).exists()] == []


def test_weights_are_summed_up_by_file_from_a_report_of_pytest() -> None:
    cases = (("tests.a.test_b", 1.5), ("tests.a.test_b", 2.0), ("tests.test_c", 9.4), ("tests.test_d", 0.1))
    listed = "".join(f'<testcase classname="{module}" name="x" time="{took}" />' for module, took in cases)
    report = f"<testsuites><testsuite>{listed}</testsuite></testsuites>"
    assert sum_up(report) == "9 tests/test_c.py\n4 tests/a/test_b.py\n"
