"""End what a bench started and remove what it wrote, however the bench ends, `kill -9` included.

The bench runs in a child process. Its parent waits: what the child leaves behind becomes the parent's (Linux,
PR_SET_CHILD_SUBREAPER), which ends it and removes the folder that held all temporary files.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_GRACE_SECONDS = 10.0


def keep() -> None:
    """Go on in a child process, and clean up in this one when the child has ended (on Linux alone)."""
    if sys.platform != "linux":
        return
    folder = tempfile.mkdtemp(prefix="bench-")
    Path(folder).chmod(0o755)  # a database server has an account of its own
    prctl = ctypes.CDLL(None).prctl
    prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child:
        _wait(child, folder)
    prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.environ["TMPDIR"] = tempfile.tempdir = folder


def _wait(child: int, folder: str) -> NoReturn:
    def forward(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the child by itself
    status = os.waitpid(child, 0)[1]
    _end_descendants()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _end_descendants() -> None:
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
