"""Fixtures of the whole suite; what they need stands beside them in modules of their own."""

import signal

from hypothesis import settings

pytest_plugins = [
    "tests.suite.run",
    "tests.suite.leftovers",
    "tests.suite.order",
    "tests.suite.routes",
    "tests.suite.budget",
    "tests.databases",
    "tests.brokers",
    "tests.browsers",
    "tests.suite.preparation",
    "tests.suite.commands",
    "tests.services",
    "tests.programs",
    "tests.visits",
]


def pytest_configure() -> None:
    """Heed signals that whoever is started in a shell's background, or by nohup, ignores, and all their children.

    And set what holds for every test.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # No example fails for being slow: the machine may be busy.
    settings.register_profile("suite", deadline=None)
    settings.load_profile("suite")
