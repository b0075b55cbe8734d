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
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from tests.suite.leftovers import adopt_orphans, end_descendants

_SET_PDEATHSIG = 1


def keep() -> None:
    """Go on in a child process, and clean up in this one when the child has ended (on Linux alone)."""
    if sys.platform != "linux":
        return
    folder = tempfile.mkdtemp(prefix="bench-")
    Path(folder).chmod(0o755)  # a database server has an account of its own
    adopt_orphans()
    child = os.fork()
    if child:
        _wait(child, folder)
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    os.environ["TMPDIR"] = tempfile.tempdir = folder


def _wait(child: int, folder: str) -> NoReturn:
    def forward(number: int, _frame: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the child by itself
    status = os.waitpid(child, 0)[1]
    end_descendants()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
