"""`Connection.transaction()`: what is committed, what is not, and what one knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
import trio
from psycopg import errors

from regsvc.postgres.connection import IDLE, Connection
from tests.postgres.proxies import open_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Makes COMMIT take as long as the row says, in seconds.
SLOW_COMMIT = """
    CREATE TABLE things (id integer PRIMARY KEY, seconds float NOT NULL DEFAULT 0);
    CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(new.seconds); RETURN new; END';
    CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION dawdle();
"""


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Connection]:
    async with await Connection.connect(database) as connection:
        await connection.execute(SLOW_COMMIT)
        yield connection


@pytest.fixture
async def observer(database: str, connection: Connection) -> AsyncIterator[Connection]:
    async with await Connection.connect(database) as observer:
        yield observer


async def fetch_ids(observer: Connection) -> list[int]:
    return [row[0] for row in await (await observer.execute("SELECT id FROM things ORDER BY id")).fetchall()]


async def test_the_block_commits_when_it_ends_well(connection: Connection, observer: Connection) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO things VALUES (1)")
        assert await fetch_ids(observer) == []
    assert await fetch_ids(observer) == [1]


async def test_the_block_rolls_back_when_it_raises(connection: Connection, observer: Connection) -> None:
    with pytest.raises(KeyError):
        async with connection.transaction():
            await connection.execute("INSERT INTO things VALUES (1)")
            raise KeyError
    assert connection.pgconn.transaction_status == IDLE
    assert await fetch_ids(observer) == []


async def test_an_error_of_the_database_passes_and_rolls_back(
    connection: Connection, observer: Connection
) -> None:
    with pytest.raises(errors.UniqueViolation):
        async with connection.transaction():
            await connection.execute("INSERT INTO things VALUES (1), (1)")
    assert connection.pgconn.transaction_status == IDLE


async def test_an_error_swallowed_in_the_block_does_not_pass_for_a_commit(
    connection: Connection, observer: Connection
) -> None:
    """PostgreSQL answers such a COMMIT with ROLLBACK and no error."""
    with pytest.raises(errors.InFailedSqlTransaction):
        async with connection.transaction():
            await connection.execute("INSERT INTO things VALUES (1)")
            with pytest.raises(errors.UniqueViolation):
                await connection.execute("INSERT INTO things VALUES (1)")
    assert await fetch_ids(observer) == []


async def test_a_transaction_that_the_block_ended_itself_is_told(connection: Connection) -> None:
    with pytest.raises(psycopg.ProgrammingError, match="inside"):
        async with connection.transaction():
            await connection.execute("COMMIT")


async def test_transactions_do_not_nest(connection: Connection) -> None:
    async with connection.transaction():
        with pytest.raises(psycopg.ProgrammingError, match="nest"):
            async with connection.transaction():
                pytest.fail("entered")


async def test_a_cancel_in_the_block_rolls_back(connection: Connection, observer: Connection) -> None:
    with trio.move_on_after(0.1) as scope:
        async with connection.transaction():
            await connection.execute("INSERT INTO things VALUES (1)")
            await connection.execute("SELECT pg_sleep(60)")
    assert scope.cancelled_caught
    assert connection.pgconn.transaction_status == IDLE
    assert await fetch_ids(observer) == []


async def test_a_cancel_before_commit_is_sent_rolls_back(
    connection: Connection, observer: Connection
) -> None:
    with trio.CancelScope() as scope:
        async with connection.transaction():
            await connection.execute("INSERT INTO things VALUES (1)")
            scope.cancel()
    assert scope.cancelled_caught
    assert await fetch_ids(observer) == []


async def test_a_cancel_while_begin_is_on_its_way_leaves_no_transaction(connection: Connection) -> None:
    for microseconds in range(0, 1000, 20):
        with trio.move_on_after(microseconds / 1e6):
            async with connection.transaction():
                await trio.sleep_forever()
        assert connection.pgconn.transaction_status == IDLE


async def test_a_cancel_during_commit_comes_too_late(connection: Connection, observer: Connection) -> None:
    """What left the block without an exception is committed."""
    left = False
    with trio.move_on_after(0.1) as scope:
        async with connection.transaction():
            await connection.execute("INSERT INTO things VALUES (1, 0.3)")
        left = True
    assert scope.cancel_called
    assert left
    assert await fetch_ids(observer) == [1]


async def test_a_connection_that_breaks_in_the_block_raises_its_error(
    connection: Connection, observer: Connection
) -> None:
    with pytest.raises(psycopg.OperationalError):
        async with connection.transaction():
            await observer.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
            await connection.execute("SELECT 1")
    assert connection.closed


async def test_a_commit_that_is_never_answered_says_that_nobody_knows(
    database: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regsvc.postgres.connection.COMMIT_SECONDS", 0.2)
    async with open_proxy(database) as proxy, await Connection.connect(proxy.conninfo()) as remote:
        with trio.fail_after(5), pytest.raises(psycopg.OperationalError, match="outcome is unknown"):
            async with remote.transaction():
                await remote.execute("INSERT INTO things VALUES (1)")
                proxy.fall_silent()
        assert remote.closed


async def test_a_rollback_keeps_the_prepared_statements(connection: Connection) -> None:
    for _ in range(10):
        with pytest.raises(KeyError):
            async with connection.transaction():
                await connection.execute("SELECT count(*) FROM things WHERE id = %s", [1])
                raise KeyError
    prepared = await (await connection.execute("SELECT count(*) FROM pg_prepared_statements")).fetchone()
    assert prepared == (1,)
