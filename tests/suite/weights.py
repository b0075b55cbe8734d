"""How long the files of tests take, roughly; what the order is made of. Only the long ones need to be named."""

from __future__ import annotations

# Seconds on one busy core. Measure anew with `pytest --durations=0` when a file becomes long.
_FOLDERS = {
    "tests/acceptance/": 20.0,
    "tests/faults/": 60.0,
    "tests/rabbitmq/": 10.0,
}
_OWN_BROKER = 60.0  # the tests that are marked so, which are dealt like a file
NAMED: dict[str, float] = {}
_SECONDS_PER_TEST = 0.1


def weigh(name: str, tests: int) -> float:
    """Return how many seconds a file takes.

    Args:
        name: of the file, from the root of the checkout, or of another group of tests.
        tests: how many there are in it.
    """
    if name == "own_broker":
        return _OWN_BROKER
    if name in NAMED:
        return NAMED[name]
    for folder, seconds in _FOLDERS.items():
        if name.startswith(folder):
            return seconds
    if name.endswith("_browser.py"):
        return 20.0
    return _SECONDS_PER_TEST * tests
