"""How the pool opens, keeps and replaces connections, and what it does when it gets none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import psycopg
import pytest
import trio
from structlog.testing import capture_logs

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.opening import Opener
from regsvc.postgres.pool import Pool
from tests.databases import run_sql
from tests.polling import wait_until
from tests.postgres.proxies import open_proxy
from tests.postgres.test_pool import check_works

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regsvc.postgres.connection import Connection


@pytest.fixture
def crowded(database: str) -> Iterator[str]:
    """The conninfo of a role that may have two connections."""
    role = f"role_{uuid4().hex}"
    run_sql(database, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2")
    yield database.replace("regsvc@", f"{role}@")
    run_sql(database, f"DROP ROLE {role}")


async def test_what_is_kept_is_opened_before_it_is_asked_for(database: str) -> None:
    pool = Pool(database, keep=3, application_name="test")
    pool.open_ahead()
    await wait_until(lambda: pool.statistics().idle == 3)
    await check_works(pool)
    assert pool.statistics().opened == 3
    await pool.aclose()


async def test_whose_connection_opens_slowly_gets_the_next_free_one(database: str) -> None:
    async with open_proxy(database) as proxy:
        pool = Pool(proxy.conninfo(), size=2, wait=5, application_name="test")
        async with trio.open_nursery() as nursery:
            async with pool.connection():
                proxy.fall_silent()
                nursery.start_soon(take, pool)
                await wait_until(lambda: pool.statistics().waiting == 1)
            with trio.fail_after(2):
                await wait_until(lambda: pool.statistics().waiting == 0)
        assert pool.statistics().opened == 1
        await pool.aclose()


async def test_what_was_being_opened_while_statements_were_found_lost_prepares_none(database: str) -> None:
    """Behind a pooler, one that was late would lose a statement again, and another request with it."""
    opened: list[Connection] = []
    async with open_proxy(database) as proxy:
        opener = Opener(
            proxy.conninfo(),
            seconds=30,
            application_name="test",
            prepare=True,
            life=60,
            on_opened=opened.append,
            on_failed=lambda error: pytest.fail(str(error)),
        )
        proxy.fall_silent()
        opener.open_one()
        await wait_until(lambda: proxy.open_streams > 0)
        opener.stop_preparing(psycopg.errors.InvalidSqlStatementName("lost"))
        proxy.speak()
        await wait_until(lambda: bool(opened))
    (connection,) = opened
    assert connection.prepare_threshold is None
    connection.close_nowait()


async def take(pool: Pool) -> None:
    async with pool.connection():
        pass


async def test_at_the_limit_of_the_role_requests_queue_for_what_is_there(crowded: str) -> None:
    pool = Pool(crowded, size=8, wait=10, limit=10, application_name="test")
    served = 0

    async def work() -> None:
        nonlocal served
        async with pool.connection() as connection:
            await connection.execute("SELECT pg_sleep(0.02)")
        served += 1

    await check_works(pool)
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(work)
    assert served == 40
    assert pool.statistics().idle <= 2
    await pool.aclose()


async def test_connections_have_a_life(database: str) -> None:
    pool = Pool(database, keep=1, life=0.05, application_name="test")
    await check_works(pool)
    # While anything is lent, the pool looks for what is old.
    async with pool.connection(), pool.connection():
        pass
    async with pool.connection():
        await wait_until(lambda: pool.statistics().dropped)
    await check_works(pool)
    await pool.aclose()


async def test_an_outage_is_logged_once_with_the_words_of_postgresql() -> None:
    pool = Pool("postgresql://user@127.0.0.1:1/database", application_name="test")
    with capture_logs() as logs:
        for _ in range(5):
            with pytest.raises(DatabaseUnavailableError):
                await check_works(pool)
    told = [entry for entry in logs if entry["event"] == "database unavailable"]
    assert len(told) == 1
    assert "Connection refused" in told[0]["error"]


async def test_statements_that_do_not_stay_prepared_are_prepared_no_more(database: str) -> None:
    """Behind a pooler each transaction may meet another server, with other statements prepared or none."""
    pool = Pool(database, size=1, application_name="test")

    async def ask() -> list[tuple[int]]:
        async with pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT count(*) FROM pg_prepared_statements WHERE name <> %s", [""]
            )
            return await cursor.fetchall()

    while await ask() == [(0,)]:
        pass
    async with pool.connection() as connection:
        await connection.execute("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")
    with capture_logs() as logs, pytest.raises(DatabaseUnavailableError):
        await ask()
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [
        "prepared statements are lost: disabled"
    ]
    assert [await ask() for _ in range(10)] == [[(0,)]] * 10
    await pool.aclose()


async def test_a_bug_in_the_pool_ends_nothing_else(database: str) -> None:
    pool = Pool(database, application_name="test")
    await check_works(pool)
    with capture_logs() as logs:
        broken = cast("Connection", object())
        pool._lent[broken] = -math.inf
        async with pool.connection():
            await wait_until(lambda: any(entry["log_level"] == "error" for entry in logs))
        del pool._lent[broken]
    await check_works(pool)
    await pool.aclose()
