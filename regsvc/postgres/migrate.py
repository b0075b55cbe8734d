"""Bring the schema up: plain numbered SQL files, applied in order, each once, each in its transaction.

`migrations/NNNN_name.sql` files are never edited once released: their checksums are kept. A file must not contain
BEGIN or COMMIT, nor what PostgreSQL refuses inside a transaction.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import psycopg
import structlog

from regsvc.errors import ConfigurationError, DatabaseUnavailableError, SchemaMismatchError
from regsvc.postgres.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.resources.abc import Traversable

log = structlog.get_logger()

_NAME = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
# Any number does that nobody else locks in this database.
_LOCK = 7_243_605_129


class MigrationError(ConfigurationError):
    """A migration failed; its transaction was rolled back."""


@dataclass(frozen=True)
class Migration:
    """One file: its name and its text."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """The SHA-256 of its text, hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(directory: Traversable) -> tuple[Migration, ...]:
    """Read the migrations in `directory`, in order.

    Raises:
        ConfigurationError: a file is not called NNNN_name.sql, or a number is missing or twice.
    """
    files = sorted(
        (file for file in directory.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    for number, file in enumerate(files, start=1):
        if not _NAME.fullmatch(file.name) or int(file.name[:4]) != number:
            raise ConfigurationError(f"migration {file.name} should be {number:04d}_name.sql")
    return tuple(Migration(file.name.removesuffix(".sql"), file.read_text("utf-8")) for file in files)


async def migrate(conninfo: str, directory: Traversable | None = None) -> list[str]:
    """Apply what is missing; several programs that start together take turns.

    Args:
        conninfo: the database, as somebody who may create tables in it.
        directory: where the files are; the package's own by default.

    Returns:
        The names of those applied here, in order; none when the schema was up to date.

    Raises:
        DatabaseUnavailableError: out of reach; with what PostgreSQL said.
        SchemaMismatchError: the database knows migrations that this program does not, or knows them otherwise.
        MigrationError: one failed and was rolled back. Those before it stay.
    """
    wanted = read_migrations(directory) if directory else _read_own()
    done: list[str] = []
    try:
        async with await Connection.connect(
            conninfo, timeout=10.0, application_name="regsvc migrate"
        ) as connection:
            while (name := await _apply_next(connection, wanted)) is not None:
                log.info("migration applied", name=name)
                done.append(name)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(" ".join(str(error).split())) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(f"the database user may not migrate: {error}") from error
    return done


async def check_schema(connection: Connection, directory: Traversable | None = None) -> None:
    """Make sure that the database has exactly this program's schema; one small query.

    Raises:
        SchemaMismatchError: it is older, newer or another.
    """
    wanted = read_migrations(directory) if directory else _read_own()
    try:
        applied = await _fetch_applied(connection)
    except psycopg.errors.UndefinedTable:
        applied = {}
    _check_known(wanted, applied)
    missing = [migration.name for migration in wanted if migration.name not in applied]
    if missing:
        raise SchemaMismatchError(f"the database lacks {', '.join(missing)}; run `regsvc migrate`")


@cache
def _read_own() -> tuple[Migration, ...]:
    return read_migrations(importlib.resources.files("regsvc.postgres") / "migrations")


async def _apply_next(connection: Connection, wanted: Sequence[Migration]) -> str | None:
    # The lock is the transaction's, which also holds behind a pgbouncer, and it is taken before looking.
    async with connection.transaction():
        await _take_lock(connection)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations ("
            "name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        applied = await _fetch_applied(connection)
        _check_known(wanted, applied)
        for migration in wanted:
            if migration.name not in applied:
                try:
                    await connection.execute(migration.sql.encode())
                except psycopg.Error as error:
                    if connection.closed:
                        raise
                    raise MigrationError(f"migration {migration.name} failed: {error}") from error
                await connection.execute(
                    "INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)",
                    [migration.name, migration.checksum],
                )
                return migration.name
    return None


async def _take_lock(connection: Connection) -> None:
    row = await (await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])).fetchone()
    if row != (True,):
        log.info("waiting for another migration")
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


async def _fetch_applied(connection: Connection) -> dict[str, str]:
    cursor = await connection.execute("SELECT name, checksum FROM schema_migrations")
    return dict(await cursor.fetchall())


def _check_known(wanted: Sequence[Migration], applied: Mapping[str, str]) -> None:
    known = {migration.name: migration.checksum for migration in wanted}
    if newer := sorted(applied.keys() - known.keys()):
        raise SchemaMismatchError(
            f"the database has {', '.join(newer)}, which this program does not know: update it"
        )
    if edited := [name for name in sorted(applied) if applied[name] != known[name]]:
        raise SchemaMismatchError(f"{', '.join(edited)} was applied with another text than this program has")
