"""A PostgreSQL that belongs to one test, which may stop it, kill it and start it again."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from regsvc.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from regsvc.postgres.migrate import migrate

# A crash of the machine loses nothing here that anybody wants; a crash of the server must lose nothing at all.
_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


class PostgresServer:
    """A server that comes and goes; `conninfo` stays the same."""

    def __init__(self, nursery: trio.Nursery, server: EmbeddedPostgres) -> None:
        self._nursery = nursery
        self._server = server
        self._ended = trio.Event()

    @property
    def conninfo(self) -> str:
        """The libpq URI of its database, which has the schema."""
        return self._server.conninfo

    async def start(self) -> None:
        """Start it, again with the data it had, and wait until it answers."""
        self._ended = trio.Event()
        await self._nursery.start(self._run)

    async def end(self, number: signal.Signals) -> None:
        """Send its first process a signal and wait until it has ended.

        SIGINT is a fast shutdown, SIGQUIT an immediate one without good-bye, SIGKILL what it is everywhere.
        """
        assert self._server.pid is not None
        os.kill(self._server.pid, number)
        with trio.fail_after(20):
            await self._ended.wait()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            await self._server.run(task_status=task_status)
        except EmbeddedPostgresError:
            self._ended.set()


@asynccontextmanager
async def open_postgres(
    directory: Path, root_directory: Path, *, settings: Mapping[str, str] = _SETTINGS
) -> AsyncIterator[PostgresServer]:
    """Run a server of the test's own.

    Args:
        directory: for its data; short, for a socket is there, too.
        root_directory: where programs and data are when root runs the tests.
        settings: PostgreSQL parameters; what is usual here does not survive a crash of the machine.
    """
    embedded = EmbeddedPostgres(directory, root_dir=root_directory, settings=settings)
    async with embedded.reserved(), trio.open_nursery() as nursery:
        server = PostgresServer(nursery, embedded)
        await server.start()
        await migrate(server.conninfo)
        yield server
        nursery.cancel_scope.cancel()
