"""A run of the suite that is interrupted leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.polling import wait_until

ROOT = Path(__file__).parents[2]
TEST = """
import subprocess, time, tempfile
from pathlib import Path
from tests.databases import make_short_directory

def test_that_never_ends():
    with make_short_directory() as directory:
        server = subprocess.Popen(["sleep", "600"], start_new_session=True)
        Path("started").write_text(f"{server.pid} {directory}")
        time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="it takes Linux's subreapers")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["interrupted", "terminated"])
def test_servers_and_folders_of_an_interrupted_run_are_gone(how: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "test_endless.py").write_text(TEST)
    started = tmp_path / "started"
    plugins = ["-p", "tests.suite.run", "-p", "tests.suite.leftovers", "-p", "no:cacheprovider"]
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *plugins, "-n", "1", "test_endless.py"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "REGSVC_TEST_RUN"}
        | {"PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)])},
        start_new_session=True,
    ) as run:
        trio.run(partial(wait_until, lambda: started.exists() and started.read_text(), seconds=60))
        pid, directory = started.read_text().split()
        assert is_running(int(pid))
        run.send_signal(how)
        run.wait(30)
    assert not is_running(int(pid))
    assert not Path(directory).exists()
