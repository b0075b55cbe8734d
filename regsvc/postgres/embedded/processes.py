"""Start, find, follow and stop PostgreSQL's programs."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

    from regsvc.postgres.embedded.cluster import Cluster


async def open_program(cluster: Cluster, program: str, *arguments: str) -> trio.Process:
    """Start one of PostgreSQL's programs as the cluster's owner, with its standard error in a pipe.

    It does not inherit our environment, which holds secrets. It gets its own session, because Ctrl-C signals the whole
    process group.
    """
    start = partial(
        trio.lowlevel.open_process,
        [str(cluster.programs / program), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=cluster.directory,
        env={"LC_ALL": "C"},
        umask=0o077,
        start_new_session=True,
    )
    if os.geteuid() == cluster.uid:
        return await start()
    return await start(user=cluster.uid, group=cluster.gid, extra_groups=[])


async def read_lines(process: trio.Process) -> AsyncGenerator[str, None]:
    """Yield the lines that a program of `open_program` writes. Iterate to the end or cancel."""
    if process.stderr is None:
        raise RuntimeError("opened without a pipe")
    rest = b""
    async for chunk in process.stderr:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").strip()
    if rest:
        yield rest.decode(errors="replace").strip()


async def stop_process(process: trio.Process, seconds: float) -> None:
    """Stop a server that is our child process, and wait for it; shielded."""
    await _stop(process.send_signal, process.wait, seconds)


async def stop_server(fd: int, seconds: float) -> None:
    """Stop a server that `find_server` found, and wait for it; shielded."""
    await _stop(partial(signal.pidfd_send_signal, fd), partial(trio.lowlevel.wait_readable, fd), seconds)


@contextmanager
def find_server(cluster: Cluster) -> Iterator[tuple[int, int] | None]:
    """Find the running server of a data directory; yield its pid and a descriptor of the process.

    A pid that was reused by another process does not count. Without Linux's /proc nothing is found: a new server then
    reports the other one itself.
    """
    fd = None
    try:
        pid = int((cluster.data / "postmaster.pid").read_text().partition("\n")[0])
        fd = os.pidfd_open(pid)
        process = Path(f"/proc/{pid}")
        ours = process.stat().st_uid == cluster.uid and _serves(process, cluster.data)
    except (OSError, ValueError, AttributeError):
        ours = False
    try:
        yield (pid, fd) if ours and fd is not None else None
    finally:
        if fd is not None:
            os.close(fd)


def _serves(process: Path, data: Path) -> bool:
    # By its arguments, which every user may read, or by its working directory if that was moved.
    arguments = (process / "cmdline").read_bytes().split(b"\0")
    return os.fsencode(data) in arguments or (process / "cwd").samefile(data)


async def _stop(
    send: Callable[[signal.Signals], None], wait: Callable[[], Awaitable[object]], seconds: float
) -> None:
    """Try PostgreSQL's three ways to stop in turn: fast, immediate, kill, each with its own timeout."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with trio.CancelScope(shield=True, deadline=trio.current_time() + seconds) as scope:
            with suppress(ProcessLookupError):
                send(number)
            await wait()
        if not scope.cancelled_caught:
            return
