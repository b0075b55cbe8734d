"""Fixtures of the whole suite; what they need stands beside them in modules of their own."""

import signal

pytest_plugins = [
    "tests.databases",
    "tests.brokers",
    "tests.browsers",
    "tests.services",
    "tests.programs",
    "tests.visits",
]


def pytest_configure() -> None:
    """Heed signals that whoever is started in a shell's background, or by nohup, ignores, and all their children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
