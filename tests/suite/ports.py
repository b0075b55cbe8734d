"""Ports that this process has for itself until it ends, whatever other tests run on the machine.

A port that is found free and let go may be another's a moment later. Sockets cannot be handed to a broker, nor to a
proxy that stops listening and listens again, so a port is locked instead: one byte of a file for each. The kernel
releases the locks of a process that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

# Below the ephemeral range. Inside it, a client that keeps dialling the port of a stopped broker may be given the
# very port as its own and connect to itself; and any client may take it while a server restarts.
_RANGE = range(20_000, 30_000)
_held: set[int] = set()  # locks of one's own do not conflict (POSIX record locks)


def take_port() -> int:
    """Return a loopback port that is free, and that no other call returns while this process lives."""
    for port in random.sample(_RANGE, 500):
        if port not in _held and _lock(port) and _is_free(port):
            _held.add(port)
            return port
    raise RuntimeError("no free loopback ports")


def _lock(port: int) -> bool:
    try:
        fcntl.lockf(_open_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False


@cache
def _open_locks() -> int:
    """Open the file of the locks for good: closing any of its descriptors would release them all."""
    path = Path(tempfile.gettempdir()) / f"regsvc-tests-ports-{os.geteuid()}.lock"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
