"""What several processes share is prepared once, before the first test, and outside of any test's timeout.

Workers know which fixtures their tests ask for; the controller, which outlives them, owns what is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import brokers, browsers
from tests.suite.run import is_worker, shared_folder

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController  # type: ignore[import-untyped]  # it has no types

_PREPARED = pytest.StashKey[set[str]]()
_PREPARATIONS = {"rabbitmq": brokers.prepare, "browser": browsers.prepare}

_SERVERS = {"postgres_server", "root_directory", "rabbitmq", "browser"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, so that `-m "not server"` chooses the others."""
    for item in items:
        if not _SERVERS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.server)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note what the tests of this process need, and prepare it when there is no controller."""
    config = session.config
    if config.option.collectonly:
        return
    for fixture in _PREPARATIONS:
        if any(fixture in getattr(item, "fixturenames", ()) for item in session.items):
            (shared_folder(config) / f"{fixture}.wanted").touch()
    if not is_worker(config):
        _prepare(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: WorkerController) -> None:
    """Prepare what a worker's tests need; no worker starts before this was called for all of them."""
    _prepare(node.config)


def _prepare(config: pytest.Config) -> None:
    done = config.stash.setdefault(_PREPARED, set())
    for fixture, prepare in _PREPARATIONS.items():
        if fixture not in done and (shared_folder(config) / f"{fixture}.wanted").exists():
            done.add(fixture)
            prepare(config)
