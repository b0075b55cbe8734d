from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
import trio

from regsvc.errors import ConfigurationError, DatabaseUnavailableError, SchemaMismatchError
from regsvc.postgres.connection import Connection
from regsvc.postgres.migrate import MigrationError, migrate
from regsvc.postgres.schema import check_schema
from tests.databases import name_database, run_sql

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def empty(postgres_server: str) -> Iterator[str]:
    """The URI of a database with nothing in it."""
    run_sql(postgres_server, "CREATE DATABASE empty")
    yield name_database(postgres_server, "empty")
    run_sql(postgres_server, "DROP DATABASE empty WITH (FORCE)")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two migrations; the second needs the first."""
    (tmp_path / "0001_birds.sql").write_text("CREATE TABLE birds (name text);\nCREATE INDEX ON birds (name);")
    (tmp_path / "0002_robin.sql").write_text("INSERT INTO birds VALUES ('robin is 100% red');")
    return tmp_path


async def fetch_birds(conninfo: str) -> list[str]:
    async with await Connection.connect(conninfo) as connection:
        return [row[0] for row in await (await connection.execute("SELECT name FROM birds")).fetchall()]


async def check(conninfo: str, directory: Path) -> None:
    async with await Connection.connect(conninfo) as connection:
        await check_schema(connection, directory)


async def test_applies_each_file_once_in_order(empty: str, directory: Path) -> None:
    assert await migrate(empty, directory) == ["0001_birds", "0002_robin"]
    assert await migrate(empty, directory) == []
    assert await fetch_birds(empty) == ["robin is 100% red"]
    await check(empty, directory)


async def test_goes_on_where_an_older_program_stopped(empty: str, directory: Path) -> None:
    await migrate(empty, directory)
    (directory / "0003_wren.sql").write_text("INSERT INTO birds VALUES ('wren')")
    with pytest.raises(SchemaMismatchError, match="0003_wren; run `regsvc migrate`"):
        await check(empty, directory)
    assert await migrate(empty, directory) == ["0003_wren"]


async def test_several_at_once_apply_each_file_once(empty: str, directory: Path) -> None:
    applied: list[str] = []

    async def start() -> None:
        applied.extend(await migrate(empty, directory))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(start)
    assert sorted(applied) == ["0001_birds", "0002_robin"]
    assert await fetch_birds(empty) == ["robin is 100% red"]


async def test_a_file_that_fails_leaves_nothing_and_keeps_what_came_before(
    empty: str, directory: Path
) -> None:
    (directory / "0002_robin.sql").write_text("INSERT INTO birds VALUES ('robin'); SELECT nonsense;")
    with pytest.raises(MigrationError, match="0002_robin failed"):
        await migrate(empty, directory)
    assert await fetch_birds(empty) == []
    (directory / "0002_robin.sql").write_text("INSERT INTO birds VALUES ('robin')")
    assert await migrate(empty, directory) == ["0002_robin"]


async def wait_asleep(conninfo: str) -> None:
    """Wait until a statement of the database sleeps."""
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    async with await Connection.connect(conninfo) as connection:
        with trio.fail_after(60):
            while (await (await connection.execute(sleeping)).fetchone()) != (1,):  # noqa: ASYNC110 - no event
                await trio.sleep(0.02)


async def test_a_cancelled_migration_leaves_nothing(empty: str, directory: Path) -> None:
    (directory / "0002_robin.sql").write_text("INSERT INTO birds VALUES ('robin'); SELECT pg_sleep(60);")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(migrate, empty, directory)
        await wait_asleep(empty)
        nursery.cancel_scope.cancel()
    assert await fetch_birds(empty) == []


async def test_an_edited_file_is_refused(empty: str, directory: Path) -> None:
    await migrate(empty, directory)
    (directory / "0001_birds.sql").write_text("CREATE TABLE birds (name text)")
    for attempt in (migrate, check):
        with pytest.raises(SchemaMismatchError, match="0001_birds differs from the text that was applied"):
            await attempt(empty, directory)


async def test_a_newer_schema_is_refused(empty: str, directory: Path) -> None:
    await migrate(empty, directory)
    (directory / "0002_robin.sql").unlink()
    for attempt in (migrate, check):
        with pytest.raises(SchemaMismatchError, match="0002_robin, which this program does not know"):
            await attempt(empty, directory)


async def test_an_empty_database_is_told_what_to_run(empty: str) -> None:
    async with await Connection.connect(empty) as connection:
        with pytest.raises(SchemaMismatchError, match="run `regsvc migrate`"):
            await check_schema(connection)


@pytest.mark.parametrize("name", ["0003_Wren.sql", "3_wren.sql", "0004_wren.sql", "0002_wren.sql"])
async def test_a_misnamed_file_is_refused(empty: str, directory: Path, name: str) -> None:
    """Two branches that number alike, say."""
    (directory / name).write_text("SELECT 1")
    with pytest.raises(ConfigurationError, match=name):
        await migrate(empty, directory)


async def test_an_unreachable_database_is_unavailable(directory: Path) -> None:
    with pytest.raises(DatabaseUnavailableError):
        await migrate("postgresql://user@127.0.0.1:1/database", directory)


async def test_a_user_who_may_not_is_told(empty: str, directory: Path) -> None:
    # Before PostgreSQL 15 every role may make tables.
    run_sql(
        empty,
        "DROP ROLE IF EXISTS reader",
        "CREATE ROLE reader LOGIN",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    )
    with pytest.raises(MigrationError, match="may not migrate"):
        await migrate(empty.replace("regsvc@", "reader@"), directory)


async def test_a_wrong_conninfo_is_a_configuration_error(directory: Path) -> None:
    """And what may be its password is not told."""
    with pytest.raises(ConfigurationError) as caught:
        await migrate("postgresql://user:canary@[half/database", directory)
    assert "canary" not in str(caught.value)


async def test_the_schema_of_the_program_is_what_a_fresh_database_gets(database: str) -> None:
    async with await Connection.connect(database) as connection:
        await check_schema(connection)
    assert await migrate(database) == []
    with pytest.raises(psycopg.errors.UndefinedTable):
        await fetch_birds(database)
