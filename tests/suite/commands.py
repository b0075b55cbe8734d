"""Run commands of regsvc to their end, each in a process of its own that has its modules already.

Most of what a command costs is its imports: 0.6 s of processor time, for a statement that takes a millisecond. So
one process a worker imports them once, and is forked for each command, which then has its own environment, folder and
streams and exits by itself. Imports have no effects (`tests/test_architecture.py`), so nothing else differs. That
`python -m regsvc` does the same is shown in `tests/acceptance/test_commands.py` and `tests/sessions/`.

This file is also what that process runs.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any

_LONGEST = 100  # seconds, after which a command is killed
_MODULES = (
    "cli",
    "program",
    "commands.keys",
    "commands.mail",
    "commands.tokens",
    "commands.users",
    "commands.verify",
)


def answer_requests(listener: socket.socket, leash: int) -> None:
    """Fork a process for every command that is asked for. Return in each of them, ready to run it.

    Args:
        listener: where requests come from, each a line of JSON with the three standard streams.
        leash: a pipe; at its end this process exits.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener.fileno(), leash], [], [])
        if leash in ready:
            sys.exit()
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os.close(leash)
            _attend(connection)
            return
        connection.close()


def _attend(connection: socket.socket) -> None:
    """Fork once more: one process becomes the command, and one waits for it and tells how it ended."""
    line, streams, _, _ = socket.recv_fds(connection, 2**20, 3)
    while not line.endswith(b"\n"):
        line += connection.recv(2**20)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if command := os.fork():
        _, status = os.waitpid(command, 0)
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    asked: dict[str, Any] = json.loads(line)
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.chdir(asked["folder"])
    sys.argv = ["regsvc", *asked["arguments"]]
    signal.alarm(_LONGEST)


class _Parent:
    """The process that commands are forked from.

    Args:
        environ: of its interpreter; that of a command comes with the command.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="regsvc-commands-")
        self._path = str(Path(self._folder.name) / "socket")
        leash, self._leash = os.pipe()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self._path)
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(listener.fileno()), str(leash)],
                pass_fds=[listener.fileno(), leash],
                stdin=subprocess.DEVNULL,
                env=dict(environ),
            )
        os.close(leash)

    def run(self, request: bytes, streams: Sequence[IO[bytes]]) -> int:
        """Run a command and return its exit code."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self._path)
            socket.send_fds(connection, [request + b"\n"], [stream.fileno() for stream in streams])
            return int(connection.recv(16))

    def close(self) -> None:
        """End the process; commands that still run do so to their end."""
        os.close(self._leash)
        self._process.wait()
        self._folder.cleanup()


_parents: list[_Parent] = []


def pytest_unconfigure() -> None:
    """End what was started."""
    while _parents:
        _parents.pop().close()


async def run_command(
    *arguments: str, environ: Mapping[str, str], stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run `regsvc ARGUMENTS` to its end, with these settings and nothing else of ours.

    Args:
        arguments: of the command line.
        environ: the settings.
        stdin: what the command reads.
    """
    import trio  # noqa: PLC0415 - what commands are forked from has not begun to use it

    from tests.programs import clean_environ  # noqa: PLC0415

    if sys.platform != "linux":
        command = [sys.executable, "-m", "regsvc", *arguments]
        run = partial(trio.run_process, command, stdin=stdin, env=clean_environ(environ), check=False)
        return await run(capture_stdout=True, capture_stderr=True)
    if not _parents:
        _parents.append(_Parent(clean_environ({})))
    asked = {"arguments": arguments, "environ": clean_environ(environ), "folder": str(Path.cwd())}
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as told,
    ):
        given.write(stdin)
        given.seek(0)
        streams = [given, said, told]
        code = await trio.to_thread.run_sync(_parents[0].run, json.dumps(asked).encode(), streams)
        for stream in (said, told):
            stream.seek(0)
        return subprocess.CompletedProcess(["regsvc", *arguments], code, said.read(), told.read())


if __name__ == "__main__":
    from regsvc.__main__ import _without, main
    from regsvc.processes import garbage

    with garbage.spared(), _without("rich", "greenlet"):
        for _name in _MODULES:
            import_module(f"regsvc.{_name}")
    garbage.keep_imports()
    answer_requests(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
    main()
