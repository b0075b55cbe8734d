"""How long the files of tests take, roughly; the order is made of it.

`make weights` writes `weights.txt` from what the last whole run measured, into `build/tests.xml`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

FILE = Path(__file__).with_name("weights.txt")
_LEAST = 2.0  # seconds from which a file is named
_OWN_BROKER = 60.0  # seconds of the tests that are marked so, which are dealt like a file
_SECONDS_PER_TEST = 0.1


def weigh(name: str, tests: int) -> float:
    """Return how many seconds a file takes.

    Args:
        name: of the file, from the root of the checkout, or of another group of tests.
        tests: how many there are in it.
    """
    if name == "own_broker":
        return _OWN_BROKER
    return read_weights().get(name) or (10.0 if name.endswith("_browser.py") else _SECONDS_PER_TEST * tests)


@cache
def read_weights() -> dict[str, float]:
    """Return the seconds of the files that take long."""
    lines = (line.split() for line in FILE.read_text().splitlines())
    return {name: float(seconds) for seconds, name in lines}


def sum_up(report: str) -> str:
    """Return the lines of `weights.txt`, the longest file first.

    Args:
        report: of pytest, as JUnit writes it.
    """
    seconds: dict[str, float] = defaultdict(float)
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314 - our own report
        if module := case.get("classname"):
            seconds[module.replace(".", "/") + ".py"] += float(case.get("time", 0))
    longest_first = sorted(seconds.items(), key=lambda entry: -entry[1])
    return "".join(f"{took:.0f} {name}\n" for name, took in longest_first if took >= _LEAST)


if __name__ == "__main__":
    FILE.write_text(sum_up(Path(sys.argv[1]).read_text()))
