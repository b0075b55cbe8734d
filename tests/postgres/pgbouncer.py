"""A PgBouncer of a test's own, in front of the tests' server."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict

from tests.suite.packages import do_without, install
from tests.suite.ports import take_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

_CONFIGURATION = """
[databases]
* = host={host} port=5432 user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 6
max_client_conn = 100
"""


def find_pgbouncer(config: pytest.Config) -> str:
    """Return the program, installed if need be; a test without one is skipped, and fails in CI."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    if not shutil.which("pgbouncer", path=path):
        install(config, "pgbouncer")
    return shutil.which("pgbouncer", path=path) or do_without("no PgBouncer here: install pgbouncer")


@contextmanager
def run_pgbouncer(program: str, database: str, folder: Path) -> Iterator[str]:
    """Run PgBouncer in transaction mode as long as the block lasts; gives the conninfo through it."""
    parameters = conninfo_to_dict(database)
    host, port = Path(str(parameters["host"])), take_port()
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(_CONFIGURATION.format(host=host, user=parameters["user"], port=port))
    command = [program, "-q", str(configuration)]
    if os.geteuid() == 0:
        # It does not run as root, and the server's socket is its owner's alone.
        command[1:1] = ["-u", pwd.getpwuid(host.stat().st_uid).pw_name]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_port(port, process)
        yield f"postgresql://{parameters['user']}@127.0.0.1:{port}/{parameters['dbname']}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        if process.poll() is not None:
            raise RuntimeError(f"PgBouncer ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.02).close()
        except OSError:
            time.sleep(0.02)
            continue
        return
    raise TimeoutError("PgBouncer does not listen")
