"""Fixtures of the whole suite; what they need stands beside them in modules of their own."""

pytest_plugins = ["tests.databases", "tests.brokers", "tests.browsers", "tests.services", "tests.programs"]
