"""One run of the suite: which of its processes this is, and the folder that they share.

Under pytest-xdist a controller starts several workers, and the workers run the tests. Without it, one process does
everything.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController  # type: ignore[import-untyped]  # it has no types

_FOLDER = pytest.StashKey[Path]()
_INPUT = "regsvc_folder"
# Passwords are hashed with a niceness of 19. Beside busy processes of 0 that is one part in seventy of a core, and
# tests that hash take minutes; beside these it is one in three.
_NICENESS = 15


def is_worker(config: pytest.Config) -> bool:
    """Return whether this process runs tests for a controller."""
    return hasattr(config, "workerinput")


def name_worker(config: pytest.Config) -> str:
    """Return a name that no other process of this run has."""
    return str(_worker_input(config).get("workerid", "only"))


def count_workers(config: pytest.Config) -> int:
    """Return how many processes run tests."""
    return int(_worker_input(config).get("workercount", 1))


def shared_folder(config: pytest.Config) -> Path:
    """Return the folder of all processes of this run; it is removed at the end."""
    return config.stash[_FOLDER]


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Make the folder, or take the controller's."""
    given = _worker_input(config).get(_INPUT)
    config.stash[_FOLDER] = Path(given or tempfile.mkdtemp(prefix="regsvc-run-"))
    if is_worker(config) and os.nice(0) == 0:
        os.nice(_NICENESS)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Tell a worker where the folder is."""
    node.workerinput[_INPUT] = str(shared_folder(node.config))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder; workers have ended by now."""
    if not is_worker(config):
        shutil.rmtree(shared_folder(config), ignore_errors=True)


def _worker_input(config: pytest.Config) -> dict[str, Any]:
    return getattr(config, "workerinput", {})
