"""Determine the schema of the database, and whether this program runs on it.

A migration only adds, so that programs of the previous release run on the next schema, and each can be restarted
beside the other. `schema_migrations.serves` holds, for each migration, the number of the oldest program that runs on
its schema. A program's number is that of its newest migration.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import psycopg

from regsvc.errors import ConfigurationError, SchemaMismatchError
from regsvc.postgres.server import check_server

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.resources.abc import Traversable

    from regsvc.postgres.connection import Connection

_NAME = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_SERVES = re.compile(r"^-- serves: (\d{4})$", re.MULTILINE)
_OUTSIDE = re.compile(r"^-- outside a transaction:$", re.MULTILINE)
_TABLE = re.compile(
    r"^(?:CREATE (?:UNLOGGED )?TABLE|ALTER TABLE \w+ RENAME TO) (\w+)", re.MULTILINE | re.IGNORECASE
)
# Only these may run outside a transaction: they block no client, and can be repeated after an interruption.
_REPEATABLE = re.compile(
    r"CREATE (UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS|DROP INDEX CONCURRENTLY IF EXISTS"
    r"|ALTER TABLE \w+ VALIDATE CONSTRAINT|ANALYZE|VACUUM",
    re.IGNORECASE,
)
# Up to this migration, releases could not run side by side: each program needs exactly its own schema.
_ALONE = 12

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
"""Privileges that `serve` needs on every table but `schema_migrations`, which it only reads."""


@dataclass(frozen=True)
class Migration:
    """A migration file: its name, its text, and the number of the oldest program that runs on its schema."""

    name: str
    sql: str
    serves: int

    @property
    def number(self) -> int:
        """Position in the order, from 1."""
        return int(self.name[:4])

    @cached_property
    def checksum(self) -> str:
        """The SHA-256 of its text, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def inside(self) -> str:
        """The statements that run in one transaction."""
        return _OUTSIDE.split(self.sql, maxsplit=1)[0]

    @cached_property
    def outside(self) -> tuple[str, ...]:
        """The statements that run after the transaction, each by itself."""
        _, *rest = _OUTSIDE.split(self.sql, maxsplit=1)
        lines = "".join(line for line in "".join(rest).splitlines(keepends=True) if not line.startswith("--"))
        return tuple(statement.strip() for statement in lines.split(";") if statement.strip())


@dataclass(frozen=True)
class Applied:
    """An applied migration. `serves` is None if the program that applied it did not record it."""

    checksum: str
    serves: int | None
    unfinished: bool


def read_migrations(directory: Traversable | None = None) -> tuple[Migration, ...]:
    """Read the migrations of `directory`, in order; of the package by default.

    Raises:
        ConfigurationError: a file is not called NNNN_name.sql, a number is missing or repeated, or a statement may not
            run outside a transaction.
    """
    return _read(directory) if directory else _read_own()


async def check_schema(connection: Connection, directory: Traversable | None = None) -> tuple[str, ...]:
    """Check that this program runs on the database's schema, with one small query.

    Returns:
        The names of the migrations that are newer than this program and compatible with it.

    Raises:
        ServerNotUsableError: see `check_server`.
        SchemaMismatchError: the schema is older, different, or too new for this program.
        ConfigurationError: the user may not read it.
    """
    check_server(connection)
    wanted = read_migrations(directory)
    applied = await fetch_applied(connection)
    newer = compare(wanted, applied)
    missing = [migration.name for migration in wanted if migration.name not in applied]
    if missing:
        raise SchemaMismatchError(f"the database lacks {', '.join(missing)}; run `regsvc migrate`")
    return newer


async def check_rights(connection: Connection) -> None:
    """Check that the database user has the privileges that `serve` needs on every table, with one small query.

    Raises:
        ConfigurationError: privileges are missing; names them and the tables.
    """
    tables = sorted({table for migration in read_migrations() for table in _TABLE.findall(migration.sql)})
    cursor = await connection.execute(
        """
        SELECT relation, string_agg(wanted, ', ' ORDER BY wanted)
          FROM unnest(%s::text[]) AS relation, unnest(%s::text[]) AS wanted
         WHERE to_regclass(relation) IS NOT NULL AND NOT has_table_privilege(to_regclass(relation), wanted)
         GROUP BY relation ORDER BY relation
        """,
        [tables, list(RIGHTS)],
    )
    lacking = [f"{rights} on {table}" for table, rights in await cursor.fetchall()]
    if lacking:
        raise ConfigurationError(f"the database user {connection.info.user} lacks {'; '.join(lacking)}")


async def fetch_applied(connection: Connection) -> dict[str, Applied]:
    """Return the migrations of the database, by name.

    Raises:
        ConfigurationError: the database user may not read them.
    """
    try:
        # By way of JSON, because an older table has neither `serves` nor `unfinished`.
        cursor = await connection.execute(
            """
            SELECT name, checksum, (to_jsonb(m) ->> 'serves')::integer,
                   coalesce((to_jsonb(m) ->> 'unfinished')::boolean, false)
              FROM schema_migrations AS m
            """
        )
    except psycopg.errors.UndefinedTable:
        return {}
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(f"the database user may not read the schema: {error}") from error
    return {name: Applied(*rest) for name, *rest in await cursor.fetchall()}


def compare(wanted: Sequence[Migration], applied: Mapping[str, Applied]) -> tuple[str, ...]:
    """Return the names of the applied migrations that are newer than those of this program.

    Raises:
        SchemaMismatchError: this program does not run on them, or they do not follow its own.
    """
    known = {migration.name: migration.checksum for migration in wanted}
    ours = len(wanted)
    newer = tuple(sorted(applied.keys() - known.keys()))
    if strange := [name for name in newer if not name[:4].isdigit() or int(name[:4]) <= ours]:
        raise SchemaMismatchError(f"the database has {', '.join(strange)}, which this program does not know")
    if too_new := [name for name in newer if (applied[name].serves or 0) > ours]:
        raise SchemaMismatchError(
            f"the database has {', '.join(too_new)}, which this program does not know and is too old for: "
            "update the program"
        )
    if edited := [
        name for name in sorted(applied) if name in known and applied[name].checksum != known[name]
    ]:
        raise SchemaMismatchError(
            f"{', '.join(edited)} differs from the text that was applied to the database"
        )
    return newer


@cache
def _read_own() -> tuple[Migration, ...]:
    return _read(importlib.resources.files("regsvc.postgres") / "migrations")


def _read(directory: Traversable) -> tuple[Migration, ...]:
    files = sorted(
        (file for file in directory.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    migrations: list[Migration] = []
    serves = 0
    for number, file in enumerate(files, start=1):
        if not _NAME.fullmatch(file.name) or int(file.name[:4]) != number:
            raise ConfigurationError(f"migration {file.name} should be {number:04d}_name.sql")
        sql = file.read_text("utf-8")
        said = _SERVES.search(sql)
        serves = int(said[1]) if said else number if number <= _ALONE else serves
        migration = Migration(file.name.removesuffix(".sql"), sql, serves)
        for statement in migration.outside:
            if not _REPEATABLE.match(statement):
                raise ConfigurationError(
                    f"migration {file.name} may not run this outside a transaction: {statement}"
                )
        migrations.append(migration)
    return tuple(migrations)
