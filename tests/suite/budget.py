"""What a whole run spends its time on: the costliest tests are printed, and one that takes too much of it is an error.

Nothing is said about seconds, which depend on the machine: a test's share of the time of all tests hardly does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import pytest

from tests.suite.run import is_worker

SHARE = 0.05  # of the time of all tests, the most that one may take
_SHOWN = 10
_WHOLE = (
    3_000  # tests, from which a run counts as one of everything; each share is too large in a smaller one
)
# Tests that may take more, and why.
LONG = {
    "tests/acceptance/test_selftest.py::test_nobody_learns_who_has_an_account": "real hashes, many times each",
    "tests/faults/test_faults.py::test_nothing_is_lost_or_doubled_whatever_is_killed_or_cut": "one run, many kills",
}
TOO_LONG = 9  # the exit code; no other of pytest's


class Clock:
    """Adds up how long tests take, with what they set up and tear down."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a part of a test."""
        self.seconds[report.nodeid] += report.duration

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a run that is green but for its budget."""
        if find_too_long(self.seconds) and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = TOO_LONG

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the costliest tests, with their share of the time of all."""
        whole = sum(self.seconds.values())
        if len(self.seconds) < _WHOLE or not whole:
            return
        terminalreporter.section("costliest tests")
        for test, seconds in sorted(self.seconds.items(), key=lambda entry: -entry[1])[:_SHOWN]:
            terminalreporter.write_line(f"{seconds / whole:6.1%} {seconds:7.1f}s {test}")
        for test in find_too_long(self.seconds):
            terminalreporter.write_line(
                f"{test} takes more than {SHARE:.0%} of the whole run. Make it cheaper, or say in "
                "tests/suite/budget.py why it may.",
                red=True,
            )


def pytest_configure(config: pytest.Config) -> None:
    """Have the process that hears of all tests keep the time."""
    if not is_worker(config):
        config.pluginmanager.register(Clock())


def find_too_long(seconds: Mapping[str, float]) -> list[str]:
    """Return the tests of a whole run that take more of it than one may."""
    if len(seconds) < _WHOLE:
        return []
    limit = SHARE * sum(seconds.values())
    return [test for test, took in seconds.items() if took > limit and test not in LONG]
