"""When the database counts as ready."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from structlog.testing import capture_logs

from regsvc.errors import SchemaMismatchError
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.postgres.readiness import Readiness
from regsvc.postgres.server import ReadOnlyServerError, prove_writable
from tests.databases import run_sql
from tests.postgres_servers import open_postgres


async def look(readiness: Readiness) -> None:
    async with readiness.connection():
        pass


async def test_a_newer_schema_is_ready_with_one_warning(database: str) -> None:
    run_sql(
        database,
        "INSERT INTO schema_migrations (name, checksum, serves) VALUES ('9999_future', '', 12)",
    )
    readiness = Readiness(database, [], prepare=True)
    with capture_logs() as logs:
        for _ in range(3):
            await look(readiness)
    warned = [entry["newer"] for entry in logs if entry["log_level"] == "warning"]
    assert warned == [("9999_future",)]
    run_sql(database, "UPDATE schema_migrations SET serves = 9999 WHERE name = '9999_future'")
    with pytest.raises(SchemaMismatchError):
        await look(readiness)
    await readiness.aclose()


async def test_a_server_that_is_read_only_is_not_ready(database: str) -> None:
    name = database.partition("?")[0].rpartition("/")[2]
    readiness = Readiness(database, [], prepare=True)
    await look(readiness)
    run_sql(database, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    other = Readiness(database, [], prepare=True)
    with pytest.raises(ReadOnlyServerError, match="default_transaction_read_only is on"):
        await look(other)
    async with await Connection.connect(database) as connection:
        with pytest.raises(ReadOnlyServerError):
            await prove_writable(connection)
    await readiness.aclose()
    await other.aclose()


async def test_refused_writes_are_looked_into_until_they_are_taken(database: str) -> None:
    """A full disk shows only in what is written: PostgreSQL says nothing of it before."""
    pool = Pool(database, application_name="test")
    pool.writes_refused = True
    readiness = Readiness(database, [pool], prepare=True)
    await look(readiness)
    assert not pool.writes_refused
    await readiness.aclose()
    await pool.aclose()


async def test_the_look_waits_for_no_other_connection(database: str) -> None:
    pool = Pool(database, size=1, application_name="test")
    readiness = Readiness(database, [pool], prepare=True)
    async with pool.connection():
        await look(readiness)
    await readiness.aclose()
    await pool.aclose()


async def test_a_standby_is_not_ready_and_is_left_for_the_server_that_takes_writes(
    database: str, short_directory: Path, root_directory: Path
) -> None:
    async with open_postgres(short_directory, root_directory) as server:
        async with await Connection.connect(server.conninfo) as connection:
            row = await (await connection.execute("SHOW data_directory")).fetchone()
        assert row is not None
        await server.end(signal.SIGINT)
        (Path(row[0]) / "standby.signal").touch()
        await server.start()
        readiness = Readiness(server.conninfo, [], prepare=True)
        with pytest.raises(ReadOnlyServerError, match="standby"):
            await look(readiness)
        await readiness.aclose()
        standby, primary = conninfo_to_dict(server.conninfo), conninfo_to_dict(database)
        both = make_conninfo(database, host=f"{standby['host']},{primary['host']}", dbname="postgres")
        async with await Connection.connect(both) as connection:
            row = await (await connection.execute("SELECT pg_is_in_recovery()")).fetchone()
            assert row == (False,)
        with pytest.raises(psycopg.OperationalError, match=r"read-only|standby|recovery"):
            await Connection.connect(make_conninfo(both, host=f"{standby['host']},{standby['host']}"))
