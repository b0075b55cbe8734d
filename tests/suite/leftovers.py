"""End what an interrupted run leaves behind: servers whose workers were ended before they could stop them.

pytest-xdist kills its workers after Ctrl-C. What they started becomes the controller's (Linux,
PR_SET_CHILD_SUBREAPER), which ends it, and removes what they had on the RAM disk.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.suite.ram_disk import RUN, find_leftovers
from tests.suite.run import is_worker

if TYPE_CHECKING:
    from collections.abc import Iterator

_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 10.0


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Become the parent of what loses its own, and take SIGTERM for Ctrl-C."""
    if is_worker(config):
        return
    os.environ.setdefault(RUN, str(os.getpid()))  # the workers have it, too
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if sys.platform == "linux":
        adopt_orphans()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End what is left of the workers' processes, and remove their folders."""
    if is_worker(config) or os.environ.get(RUN) != str(os.getpid()):
        return
    if sys.platform == "linux":
        end_descendants()
    for folder in find_leftovers():
        shutil.rmtree(folder, ignore_errors=True)


def adopt_orphans() -> None:
    """Have descendants of this process that lose their parent become its children (on Linux alone)."""
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants() -> None:
    """End all processes below this one: by SIGTERM, after ten seconds by SIGKILL."""
    deadline = time.monotonic() + _GRACE_SECONDS
    sent: set[int] = set()
    while _reap() and (left := list(descendants(os.getpid()))):
        over = time.monotonic() >= deadline
        for pid in left:
            if over or pid not in sent:
                sent.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if over else signal.SIGTERM)
        time.sleep(0.02)


def _reap() -> bool:
    """Collect children that have ended. Return whether others are left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def descendants(pid: int) -> Iterator[int]:
    """Yield the ids of all processes below one, grandchildren included."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += parents.get(each, [])
    yield from found[1:]
