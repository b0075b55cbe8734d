"""Which schemas a program runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import trio

from regsvc.errors import ConfigurationError, SchemaMismatchError
from regsvc.postgres import migrate as migrate_module
from regsvc.postgres.connection import Connection
from regsvc.postgres.migrate import LockedError, migrate
from regsvc.postgres.schema import check_rights, check_schema, read_migrations
from regsvc.postgres.server import ServerNotUsableError
from tests.databases import name_database, run_sql
from tests.postgres.proxies import open_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def empty(postgres_server: str) -> Iterator[str]:
    """The URI of a database with nothing in it."""
    name = f"empty_{uuid4().hex}"
    run_sql(postgres_server, f"CREATE DATABASE {name}")
    yield name_database(postgres_server, name)
    run_sql(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two migrations of one program."""
    (tmp_path / "0001_birds.sql").write_text("CREATE TABLE birds (name text);")
    (tmp_path / "0002_robin.sql").write_text("INSERT INTO birds VALUES ('robin');")
    return tmp_path


async def check(conninfo: str, directory: Path) -> tuple[str, ...]:
    async with await Connection.connect(conninfo) as connection:
        return await check_schema(connection, directory)


async def test_a_newer_schema_that_serves_this_program_is_no_reason_to_stop(
    empty: str, directory: Path
) -> None:
    newer = directory / "0003_wren.sql"
    newer.write_text("-- serves: 0002\nALTER TABLE birds ADD COLUMN size integer;")
    await migrate(empty, directory)
    newer.unlink()
    assert await check(empty, directory) == ("0003_wren",)
    assert await migrate(empty, directory) == []


async def test_a_newer_schema_that_no_longer_serves_this_program_is_refused(
    empty: str, directory: Path
) -> None:
    newer = directory / "0003_wren.sql"
    newer.write_text("-- serves: 0003\nALTER TABLE birds DROP COLUMN name;")
    await migrate(empty, directory)
    newer.unlink()
    for attempt in (check, migrate):
        with pytest.raises(
            SchemaMismatchError, match=r"0003_wren, which .* is too old for: update the program"
        ):
            await attempt(empty, directory)


async def test_every_migration_since_the_first_release_serves_the_program_before_it() -> None:
    migrations = read_migrations()
    for migration in migrations[12:]:
        assert migration.serves < migration.number, migration.name


async def test_a_migration_waits_for_a_reader_in_short_tries_that_let_others_pass(
    empty: str, directory: Path
) -> None:
    """A backup reads for hours: writers that queue up behind the migration wait for less than a second each."""
    await migrate(empty, directory)
    (directory / "0003_wren.sql").write_text("ALTER TABLE birds ADD COLUMN size integer;")
    longest = 0.0

    async def write(until: trio.Event) -> None:
        nonlocal longest
        async with await Connection.connect(empty) as writer:
            while not until.is_set():
                start = trio.current_time()
                await writer.execute("INSERT INTO birds (name) VALUES ('tit')")
                longest = max(longest, trio.current_time() - start)
                await trio.sleep(0.01)

    with trio.fail_after(60):
        async with await Connection.connect(empty) as reader, trio.open_nursery() as nursery:
            done = trio.Event()
            async with reader.transaction():
                await reader.execute("SELECT * FROM birds")
                nursery.start_soon(write, done)
                with trio.move_on_after(3) as scope:
                    await migrate(empty, directory)
                assert scope.cancelled_caught
            assert await migrate(empty, directory) == ["0003_wren"]
            done.set()
    assert longest < 1.4  # seconds that a request has


async def test_a_lock_that_is_never_free_is_told_with_its_holder(
    empty: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "PATIENCE", 0.1)
    await migrate(empty, directory)
    (directory / "0003_wren.sql").write_text("ALTER TABLE birds ADD COLUMN size integer;")
    async with await Connection.connect(empty, application_name="a backup") as reader, reader.transaction():
        await reader.execute("SELECT * FROM birds")
        with pytest.raises(LockedError, match="a backup"):
            await migrate(empty, directory)


async def test_what_is_outside_a_transaction_is_gone_on_with(empty: str, directory: Path) -> None:
    """An index that could not be made concurrently is left behind invalid; the next migration makes it anew."""
    run_sql(empty, "CREATE TABLE ants (name text)", "INSERT INTO ants VALUES ('ann'), ('ann')")
    (directory / "0003_ants.sql").write_text(
        "-- serves: 0002\n"
        "ALTER TABLE ants ADD COLUMN size integer, ADD CONSTRAINT ants_named CHECK (name <> '') NOT VALID;\n"
        "-- outside a transaction:\n"
        "ALTER TABLE ants VALIDATE CONSTRAINT ants_named;\n"
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS ants_name ON ants (name);\n"
    )
    with pytest.raises(ConfigurationError, match="0003_ants failed"):
        await migrate(empty, directory)
    assert await check(empty, directory) == ()
    run_sql(empty, "UPDATE ants SET name = ctid::text")
    assert await migrate(empty, directory) == ["0003_ants"]
    assert await migrate(empty, directory) == []
    async with await Connection.connect(empty) as connection:
        cursor = await connection.execute(
            "SELECT indisvalid, convalidated FROM pg_index, pg_constraint"
            " WHERE indexrelid = 'ants_name'::regclass AND conname = 'ants_named'"
        )
        assert await cursor.fetchall() == [(True, True)]


@pytest.mark.parametrize("statement", ["ALTER TABLE birds ADD x int", "UPDATE birds SET name = ''"])
async def test_only_what_locks_nobody_out_may_run_outside(directory: Path, statement: str) -> None:
    (directory / "0003_wren.sql").write_text(f"-- outside a transaction:\n{statement};\n")
    with pytest.raises(ConfigurationError, match="may not run this outside a transaction"):
        read_migrations(directory)


async def test_a_right_that_is_missing_is_named_with_its_table(database: str) -> None:
    role = f"role_{uuid4().hex}"
    run_sql(
        database,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        f"REVOKE INSERT, DELETE ON mails FROM {role}",
    )
    try:
        async with await Connection.connect(database.replace("regsvc@", f"{role}@")) as connection:
            await check_schema(connection)
            with pytest.raises(ConfigurationError, match=f"user {role} lacks DELETE, INSERT on mails$"):
                await check_rights(connection)
        assert await migrate(database.replace("regsvc@", f"{role}@")) == []
        run_sql(database, f"REVOKE ALL ON schema_migrations FROM {role}")
        async with await Connection.connect(database.replace("regsvc@", f"{role}@")) as connection:
            with pytest.raises(ConfigurationError, match="schema_migrations"):
                await check_schema(connection)
    finally:
        run_sql(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
async def test_an_encoding_that_cannot_hold_every_name_is_refused(
    postgres_server: str, encoding: str
) -> None:
    name = f"narrow_{uuid4().hex}"
    run_sql(postgres_server, f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(ServerNotUsableError, match=f"encoding is {encoding}"):
            await migrate(name_database(postgres_server, name))
    finally:
        run_sql(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


async def test_an_old_server_is_refused(database: str) -> None:
    async with open_proxy(database) as proxy:
        proxy.rewrite(rb"server_version\x00\d\d", b"server_version\x0013")
        for attempt in (migrate, check_conninfo):
            with pytest.raises(
                ServerNotUsableError, match=r"PostgreSQL 13.* is too old: regsvc needs PostgreSQL 14"
            ):
                await attempt(proxy.conninfo())


async def check_conninfo(conninfo: str) -> None:
    async with await Connection.connect(conninfo) as connection:
        await check_schema(connection)
