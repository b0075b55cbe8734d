"""What a bench starts and writes is gone when it is, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
PROGRAM = """
import os, subprocess, sys, tempfile, time
sys.path.insert(0, sys.argv[1])
import keeper
keeper.keep()
child = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True)
grandchild = child.stdout.readline().decode().strip()
print(os.getpid(), child.pid, grandchild, tempfile.mkdtemp(), flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="it takes Linux's subreapers")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_a_bench_that_is_ended_leaves_nothing_behind(how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, BENCH], stdout=subprocess.PIPE, text=True) as bench:
        assert bench.stdout is not None
        *pids, folder = bench.stdout.readline().split()
        own, child, grandchild = map(int, pids)
        assert Path(folder).is_dir()
        assert all(map(is_running, (child, grandchild)))
        os.kill(own, how)
        bench.wait(30)
        assert not is_running(child)
        assert not is_running(grandchild)
        assert not Path(folder).parent.exists()
