"""What several processes collect is the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def collect(seed: int) -> list[str]:
    """Return the ids of all tests, as a process of its own finds them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_two_processes_collect_the_same_tests_in_the_same_order() -> None:
    """Else no parallel run starts: no id has an address in memory, a random or a time in it, no order is a set's."""
    first = collect(1)
    assert len(first) > 1000
    assert first == collect(2)
    assert len(set(first)) == len(first)
