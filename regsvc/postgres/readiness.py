"""Check whether the database is ready for requests, on a separate connection that is never busy."""

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

_SECONDS = 1.0  # for a connection, and for each check on it


class Readiness:
    """Checks whether this program can work with the database: a matching schema, and a server that accepts writes.

    Args:
        conninfo: a libpq URI or key/value string.
        pools: of the connections that do the work; a write that was refused on one of them is checked by a write.
        prepare: whether statements are prepared.
        newer: migrations that are newer than this program and known to be compatible.
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
        """Check that the database is ready, and lend the connection for further checks.

        Raises:
            DatabaseUnavailableError: the database is unreachable; `ReadOnlyServerError` if it refuses writes.
            SchemaMismatchError: this program does not run on its schema.
            ServerNotUsableError: see `check_server`.
        """
        async with self._pool.connection() as conn:
            newer = await check_schema(conn)
            if newer != self._newer:
                self._newer = newer
                log.warning("schema is newer than this program, but compatible", newer=newer)
            if self._proved and not any(pool.writes_refused for pool in self._pools):
                await check_writable(conn)
            else:
                await self._prove(conn)
            yield conn

    async def _prove(self, conn: Connection) -> None:
        """Test with a write, which costs more than a query and is done only after a refused write."""
        self._proved = False
        for pool in self._pools:
            pool.writes_refused = False
        await prove_writable(conn)
        self._proved = True

    async def aclose(self) -> None:
        """Close the connection."""
        await self._pool.aclose()
