"""Migrate the schema: numbered SQL files, applied in order, each once and in its own transaction.

Files `migrations/NNNN_name.sql` are never edited after their release: the database stores their checksums. A file only
adds, so that programs of the previous release keep running. One that breaks them says so in a line `-- serves: NNNN`,
the number of the oldest program that still runs on it. Statements below a line `-- outside a transaction:` run
afterwards, one by one: `VALIDATE CONSTRAINT` of constraints added `NOT VALID`, and `CREATE INDEX CONCURRENTLY IF NOT
EXISTS`. A file must not contain BEGIN or COMMIT.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg
import structlog
import trio

from regsvc.errors import ConfigurationError, DatabaseUnavailableError, RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.postgres.schema import Migration, compare, fetch_applied, read_migrations
from regsvc.postgres.server import check_server
from regsvc.postgres.session import UNHURRIED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from importlib.resources.abc import Traversable

log = structlog.get_logger()

# An arbitrary key of an advisory lock, used only here.
_LOCK = 7_243_605_129
_TURN_SECONDS = 0.3  # between two checks whether another program has finished
# Milliseconds to wait for a lock, in turn. Every later request for the table waits behind ours, and gives up after
# 1.4 seconds.
_LOCK_WAITS = (50, 100, 200, 400, 800)
_PAUSE = 1.0  # seconds between two attempts, for the requests that queued up behind the last one
PATIENCE = 600.0  # seconds of such attempts
_INDEX = re.compile(r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (\w+)", re.IGNORECASE)

_CREATE = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())
"""
_EXTEND = """
    ALTER TABLE schema_migrations
        ADD COLUMN IF NOT EXISTS serves integer,
        ADD COLUMN IF NOT EXISTS unfinished boolean NOT NULL DEFAULT false
"""


class MigrationError(ConfigurationError):
    """A migration failed; its transaction was rolled back."""


class LockedError(RegsvcError):
    """A migration could not get a lock. Earlier migrations stay applied."""


async def migrate(conninfo: str, directory: Traversable | None = None) -> list[str]:
    """Apply the missing migrations. Programs that start together take turns.

    A newer schema that this program still runs on is left alone.

    Args:
        conninfo: of a user who may create tables; read access is enough when nothing is missing.
        directory: folder of the migration files; the package's own by default.

    Returns:
        The names of the migrations applied by this call, in order; none when the schema was up to date.

    Raises:
        DatabaseUnavailableError: the database is unreachable; with PostgreSQL's message.
        ServerNotUsableError: the server's version or encoding is not supported.
        SchemaMismatchError: the database has newer migrations that this program does not run on, or edited ones.
        MigrationError: a migration failed and was rolled back. Those before it stay applied.
        LockedError: a table was locked for ten minutes, by a backup or a forgotten transaction.
    """
    wanted = read_migrations(directory)
    done: list[str] = []
    try:
        async with await _connect(conninfo) as connection:
            check_server(connection)
            if await _find_next(connection, wanted) is None:
                return done
            async with _turn(conninfo):
                await _execute_with_lock(connection, _CREATE, _EXTEND)
                while (migration := await _find_next(connection, wanted)) is not None:
                    await _apply(connection, migration)
                    log.info("migration applied", name=migration.name)
                    done.append(migration.name)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(" ".join(str(error).split())) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(f"the database user may not migrate: {error}") from error
    return done


async def _connect(conninfo: str) -> Connection:
    return await Connection.connect(
        conninfo, timeout=10.0, application_name="regsvc migrate", limits=UNHURRIED
    )


async def _find_next(connection: Connection, wanted: Sequence[Migration]) -> Migration | None:
    """Return the first migration that is missing or unfinished."""
    applied = await fetch_applied(connection)
    newer = compare(wanted, applied)
    for migration in wanted:
        if migration.name not in applied or applied[migration.name].unfinished:
            return migration
    if newer:
        log.warning("schema is newer than this program, but compatible", newer=newer)
    return None


@asynccontextmanager
async def _turn(conninfo: str) -> AsyncIterator[None]:
    """Hold the migration lock for the block.

    It belongs to a transaction, which also works behind PgBouncer, on its own connection. CREATE INDEX CONCURRENTLY
    waits for every snapshot. A statement waiting for the lock would hold one, so the lock is polled, and by a statement
    without parameters, since parameters leave a snapshot behind.
    """
    async with await _connect(conninfo) as guard, guard.transaction():
        waited = False
        while await _fetch_value(guard, f"SELECT pg_try_advisory_xact_lock({_LOCK})") is not True:
            if not waited:
                log.info("waiting for another migration")
            waited = True
            await trio.sleep(_TURN_SECONDS)
        yield


async def _apply(connection: Connection, migration: Migration) -> None:
    try:
        if not await _fetch_value(
            connection, "SELECT 1 FROM schema_migrations WHERE name = %s", migration.name
        ):
            # The checksum and name of a migration need no quoting.
            await _execute_with_lock(
                connection,
                migration.inside,
                f"INSERT INTO schema_migrations (name, checksum, serves, unfinished) VALUES ('{migration.name}',"  # noqa: S608
                f" '{migration.checksum}', {migration.serves}, {bool(migration.outside)})",
            )
        for statement in migration.outside:
            await _drop_half_made(connection, statement)
            await connection.execute(statement.encode())
        await connection.execute(
            "UPDATE schema_migrations SET unfinished = false WHERE name = %s AND unfinished", [migration.name]
        )
    except psycopg.Error as error:
        if connection.closed:
            raise
        raise MigrationError(f"migration {migration.name} failed: {error}") from error


async def _execute_with_lock(connection: Connection, *statements: str) -> None:
    """Execute statements in one transaction, restarted whenever a lock is not granted soon.

    Raises:
        LockedError: the lock was not granted within ten minutes.
    """
    deadline = trio.current_time() + PATIENCE
    attempts = 0
    while True:
        wait = _LOCK_WAITS[min(attempts, len(_LOCK_WAITS) - 1)]
        attempts += 1
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {wait}".encode())
                for statement in statements:
                    await connection.execute(statement.encode())
        except psycopg.errors.LockNotAvailable as error:
            holder = await _find_holder(connection)
            log.warning("waiting for a lock", attempts=attempts, holder=holder)
            if trio.current_time() + _PAUSE > deadline:
                raise LockedError(f"{error}; the oldest transaction belongs to {holder}") from error
            await trio.sleep(_PAUSE)
        else:
            return


async def _find_holder(connection: Connection) -> str:
    """Return the likely holder of the lock: the client with the oldest transaction in this database."""
    cursor = await connection.execute(
        """
        SELECT format('%s (pid %s, for %s s)', coalesce(nullif(application_name, ''), 'a client'), pid,
                      round(extract(epoch FROM now() - xact_start)))
          FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'regsvc migrate'
           AND xact_start IS NOT NULL
         ORDER BY xact_start LIMIT 1
        """
    )
    row = await cursor.fetchone()
    return row[0] if row else "an unknown client"


async def _drop_half_made(connection: Connection, statement: str) -> None:
    """Drop the invalid index that an interrupted CREATE INDEX CONCURRENTLY left behind."""
    made = _INDEX.match(statement)
    if made and await _fetch_value(
        connection, "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid", made[1]
    ):
        await connection.execute(f"DROP INDEX CONCURRENTLY {made[1]}".encode())


async def _fetch_value(connection: Connection, query: str, *arguments: object) -> object:
    row = await (await connection.execute(query.encode(), arguments or None)).fetchone()
    return row[0] if row else None
