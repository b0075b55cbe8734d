from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from tests.suite.ports import take_port

ROOT = Path(__file__).parents[2]
TAKE = (
    "from tests.suite.ports import take_port; print(*(take_port() for _ in range(100)), flush=True); input()"
)


def test_no_port_is_given_twice_by_any_of_several_processes() -> None:
    """Nobody listens on any of them meanwhile."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    own = [take_port() for _ in range(100)]
    taken = [process.stdout.readline().split() for process in processes if process.stdout]
    for process in processes:
        process.communicate("\n", timeout=60)
    ports = [*own, *(int(port) for ports in taken for port in ports)]
    assert len(ports) == len(set(ports)) == 400


def test_a_port_that_is_taken_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", take_port())):
        pass
