"""What several processes collect is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.suite.run import count_workers

ROOT = Path(__file__).parents[2]


def collect(seed: int) -> subprocess.Popen[str]:
    """Have a process of its own find the ids of all tests."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_ids(process: subprocess.Popen[str]) -> list[str]:
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return [line for line in said.splitlines() if "::" in line]


@pytest.mark.timeout(600)  # it imports every test, twice
def test_two_processes_collect_the_same_tests_in_the_same_order(request: pytest.FixtureRequest) -> None:
    """Else no parallel run starts: no id has an address in memory, a random or a time in it, no order is a set's."""
    if count_workers(request.config) > 1 and "PYTHONHASHSEED" not in os.environ:
        # A run starts only if each of its processes has found the same, and each has a seed of its own.
        first = [item.nodeid for item in request.session.items]
    else:
        with collect(1) as one, collect(2) as other:
            first, second = read_ids(one), read_ids(other)
        assert first == second
    assert len(first) > 1000
    assert len(set(first)) == len(first)
