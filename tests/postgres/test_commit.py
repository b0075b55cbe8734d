"""A COMMIT that takes too long: what it is reported as is what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from tests.databases import run_sql
from tests.postgres.proxies import Proxy, open_proxy
from tests.postgres_servers import open_postgres

if TYPE_CHECKING:
    from pathlib import Path

# COMMIT waits, and does not heed that it is cancelled.
STUBBORN = """
    CREATE TABLE things (id integer PRIMARY KEY);
    CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(60); RETURN new; EXCEPTION WHEN query_canceled THEN RETURN new; END';
    CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION dawdle();
"""


async def fetch_ids(conninfo: str) -> list[int]:
    async with await Connection.connect(conninfo) as observer:
        return [row[0] for row in await (await observer.execute("SELECT id FROM things")).fetchall()]


async def cut_active(database: str, proxy: Proxy) -> None:
    """Cut all connections once a statement runs."""
    running = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(60)'"
    async with await Connection.connect(database) as observer:
        while not (await observer.execute(running.encode())).rowcount:  # noqa: ASYNC110 - another session
            await trio.sleep(0.005)
    await proxy.cut()


async def test_a_commit_that_was_hurried_and_done_all_the_same_is_a_success(database: str) -> None:
    run_sql(database, STUBBORN)
    pool = Pool(database, limit=0.1, application_name="test")
    with trio.fail_after(10):
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO things VALUES (1)")
    assert await fetch_ids(database) == [1]
    assert (pool.statistics().idle, pool.statistics().dropped) == (1, 0)
    await pool.aclose()


async def test_a_statement_that_is_a_transaction_by_itself_is_hurried_like_a_commit(database: str) -> None:
    run_sql(database, STUBBORN)
    pool = Pool(database, limit=0.1, application_name="test")
    with trio.fail_after(10):
        async with pool.connection(alone=True) as connection:
            cursor = await connection.execute("INSERT INTO things VALUES (1) RETURNING id")
            assert await cursor.fetchone() == (1,)
    assert await fetch_ids(database) == [1]
    await pool.aclose()


async def test_a_statement_alone_that_is_cut_off_is_not_known_to_have_failed(database: str) -> None:
    async with open_proxy(database) as proxy:
        pool = Pool(proxy.conninfo(), application_name="test")
        with trio.fail_after(10), pytest.raises(DatabaseUnavailableError, match="did not confirm the change"):
            async with pool.connection(alone=True) as connection:
                trio.lowlevel.spawn_system_task(cut_active, database, proxy)
                await connection.execute("SELECT pg_sleep(60)")
        await pool.aclose()


async def test_a_cancelled_statement_alone_is_awaited(database: str) -> None:
    run_sql(database, "CREATE TABLE things (id integer PRIMARY KEY)")
    pool = Pool(database, application_name="test")
    with trio.move_on_after(0.05):
        async with pool.connection(alone=True) as connection:
            await connection.execute("INSERT INTO things SELECT 1 FROM pg_sleep(0.3)")
    assert await fetch_ids(database) == [1]
    await pool.aclose()


async def test_a_commit_that_did_not_reach_its_standby_is_not_known_to_be_done(
    short_directory: Path, root_directory: Path
) -> None:
    """It is there, and would be gone if the standby took over."""
    async with open_postgres(short_directory, root_directory) as server:
        run_sql(
            server.conninfo,
            "CREATE TABLE things (id integer PRIMARY KEY)",
            "ALTER SYSTEM SET synchronous_standby_names = 'missing'",
            "SELECT pg_reload_conf()",
            "SET synchronous_commit = local",
        )
        pool = Pool(server.conninfo, limit=0.2, application_name="test")
        with (
            trio.fail_after(10),
            pytest.raises(DatabaseUnavailableError, match="did not confirm the change"),
        ):
            while True:  # until the server has read its configuration
                async with pool.transaction() as connection:
                    await connection.execute("INSERT INTO things SELECT coalesce(max(id), 0) + 1 FROM things")
        assert await fetch_ids(server.conninfo)
        await pool.aclose()
