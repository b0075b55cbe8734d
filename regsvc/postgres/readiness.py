"""Whether the database is ready for requests, found out on a connection of its own, however busy all others are."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from regsvc.postgres.pool import Pool
from regsvc.postgres.schema import check_schema
from regsvc.postgres.server import check_writable, prove_writable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from regsvc.postgres.connection import Connection

log = structlog.get_logger()

_SECONDS = 1.0  # for a connection, and for what is asked by it


class Readiness:
    """Looks whether this program can work with the database: the right schema, and a server that takes writes.

    Args:
        conninfo: a libpq URI or key/value string.
        pools: whose connections do the work; a write that was refused on one of them is looked into.
        prepare: whether statements are prepared.
        newer: the migrations that this program does not know and whose schema it has been seen to run on.
    """

    def __init__(
        self, conninfo: str, pools: Sequence[Pool], *, prepare: bool, newer: Sequence[str] = ()
    ) -> None:
        self._pool = Pool(
            conninfo, size=1, wait=_SECONDS, limit=_SECONDS, application_name="regsvc health", prepare=prepare
        )
        self._pools = pools
        self._newer = tuple(newer)
        self._proved = True

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Make sure that the database is ready, and lend the connection for what else there is to see.

        Raises:
            DatabaseUnavailableError: it is out of reach; `ReadOnlyServerError` if it takes no writes.
            SchemaMismatchError: it has a schema that this program does not run on.
            ServerNotUsableError: see `check_server`.
        """
        async with self._pool.connection() as conn:
            newer = await check_schema(conn)
            if newer != self._newer:
                self._newer = newer
                log.warning("schema is newer than this program, and serves it", newer=newer)
            if self._proved and not any(pool.writes_refused for pool in self._pools):
                await check_writable(conn)
            else:
                await self._prove(conn)
            yield conn

    async def _prove(self, conn: Connection) -> None:
        """Write something, which costs more than to ask: while writes are refused."""
        self._proved = False
        for pool in self._pools:
            pool.writes_refused = False
        await prove_writable(conn)
        self._proved = True

    async def aclose(self) -> None:
        """Close the connection."""
        await self._pool.aclose()
