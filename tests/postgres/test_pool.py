from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio
import trio.testing
from psycopg import errors

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import Connection
from regsvc.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from regsvc.postgres.pool import Pool
from tests.postgres.proxies import open_proxy
from tests.postgres.test_transaction import SLOW_COMMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TERMINATE_OTHERS = """
    SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
async def small(database: str) -> AsyncIterator[Pool]:
    """A pool of one connection that is waited for a fifth of a second."""
    pool = Pool(database, size=1, wait=0.2, application_name="small")
    yield pool
    await pool.aclose()


@pytest.fixture
async def observer(database: str) -> AsyncIterator[Connection]:
    async with await Connection.connect(database, application_name="observer") as observer:
        yield observer


async def fill(pool: Pool, count: int) -> None:
    """Make the pool open `count` connections, all idle afterwards."""
    async with trio.open_nursery() as nursery:
        everyone = trio.Event()
        borrowed = 0

        async def borrow() -> None:
            nonlocal borrowed
            async with pool.connection():
                borrowed += 1
                if borrowed == count:
                    everyone.set()
                await everyone.wait()

        for _ in range(count):
            nursery.start_soon(borrow)
    assert pool.statistics().idle == count


async def fill_in_time(pool: Pool, count: int) -> None:
    """Fill a pool with so short a wait that a busy machine may not open its connections within it: a lost place never.

    Raises:
        trio.TooSlowError: the places were not filled in half a minute.
    """
    with trio.fail_after(30):
        filled = False
        while not filled:
            try:
                await fill(pool, count)
                filled = True
            except* DatabaseUnavailableError:
                await trio.lowlevel.checkpoint()


async def check_works(pool: Pool) -> None:
    async with pool.connection() as connection:
        assert await (await connection.execute("SELECT 1")).fetchone() == (1,)


async def test_a_connection_is_opened_when_needed_and_kept(pool: Pool) -> None:
    assert pool.statistics().opened == 0
    for _ in range(10):
        await check_works(pool)
    statistics = pool.statistics()
    assert (statistics.opened, statistics.idle, statistics.in_use, statistics.dropped) == (1, 1, 0, 0)


async def test_the_server_sees_who_is_connected(small: Pool) -> None:
    async with small.connection() as connection:
        assert await (await connection.execute("SHOW application_name")).fetchone() == ("small",)


async def test_a_transaction_commits_with_its_block(pool: Pool, observer: Connection) -> None:
    async with pool.transaction() as connection:
        await connection.execute("CREATE TABLE things (id integer)")
    await observer.execute("SELECT * FROM things")


async def test_who_comes_first_is_served_first(small: Pool) -> None:
    served: list[int] = []

    async def queue_up(number: int, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async with small.connection():
            served.append(number)

    async with trio.open_nursery() as nursery, small.connection():
        for number in range(5):
            await nursery.start(queue_up, number)
            await trio.testing.wait_all_tasks_blocked()
        assert small.statistics().waiting == 5
    assert served == [0, 1, 2, 3, 4]


async def test_waiting_in_line_is_bounded(small: Pool) -> None:
    async with small.connection():
        with trio.fail_after(5), pytest.raises(DatabaseUnavailableError) as caught:
            await check_works(small)
    assert caught.value.retry_after > 0
    assert small.statistics().timeouts == 1
    await check_works(small)


async def test_a_cancelled_wait_in_line_loses_nothing(small: Pool) -> None:
    async with small.connection():
        with trio.move_on_after(0.01) as scope:
            await check_works(small)
    assert scope.cancelled_caught
    assert small.statistics().in_use == 0
    await check_works(small)


async def test_a_cancelled_connect_loses_nothing(database: str) -> None:
    async with open_proxy(database) as proxy:
        pool = Pool(proxy.conninfo(), size=1, application_name="test")
        proxy.fall_silent()
        with trio.move_on_after(0.05):
            await check_works(pool)
        proxy.speak()
        assert pool.statistics().in_use == 0
        await check_works(pool)
        await pool.aclose()


async def test_a_refusing_server_is_told_at_once() -> None:
    pool = Pool("postgresql://user@127.0.0.1:1/database", wait=30, application_name="test")
    with trio.fail_after(5), pytest.raises(DatabaseUnavailableError) as caught:
        await check_works(pool)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert pool.statistics().in_use == 0


async def test_a_server_that_never_answers_is_given_up(database: str) -> None:
    """The line and connecting share one time to wait."""
    async with open_proxy(database) as proxy:
        proxy.fall_silent()
        pool = Pool(proxy.conninfo(), size=1, wait=0.3, application_name="test")
        failures = 0

        async def fail() -> None:
            nonlocal failures
            with pytest.raises(DatabaseUnavailableError):
                await check_works(pool)
            failures += 1

        with trio.fail_after(3):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(fail)
        assert failures == 10


async def test_errors_of_statements_pass(pool: Pool) -> None:
    with pytest.raises(errors.UndefinedTable):
        async with pool.transaction() as connection:
            await connection.execute("SELECT * FROM nothing")
    assert pool.statistics().idle == 1


@pytest.mark.parametrize("condition", ["serialization_failure", "deadlock_detected"])
async def test_what_was_rolled_back_for_anothers_sake_may_be_tried_again(pool: Pool, condition: str) -> None:
    with pytest.raises(DatabaseUnavailableError) as caught:
        async with pool.transaction() as connection:
            await connection.execute(f"DO $$ BEGIN RAISE {condition}; END $$")
    assert caught.value.retry_after == 1
    assert pool.statistics().idle == 1


async def test_a_connection_left_in_a_transaction_is_dropped(pool: Pool) -> None:
    async with pool.connection() as connection:
        await connection.execute("BEGIN")
    assert (pool.statistics().idle, pool.statistics().dropped) == (0, 1)
    assert connection.closed


async def test_a_server_that_goes_away_in_the_block_is_unavailable(pool: Pool, observer: Connection) -> None:
    with pytest.raises(DatabaseUnavailableError) as caught:
        async with pool.transaction() as connection:
            await observer.execute(TERMINATE_OTHERS)
            await connection.execute("SELECT 1")
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    await check_works(pool)


async def test_idle_connections_that_died_cost_no_request(pool: Pool, observer: Connection) -> None:
    await fill(pool, 8)
    await observer.execute(TERMINATE_OTHERS)
    for _ in range(20):
        await check_works(pool)
    assert pool.statistics().dropped == 8


async def test_a_restart_of_the_server_costs_nothing_once_it_is_back(
    short_directory: Path, root_directory: Path
) -> None:
    """While it is away requests fail at once; afterwards none pays for a connection that died."""
    async with EmbeddedPostgres(short_directory / "data", root_dir=root_directory).reserved() as server:
        pool = Pool(server.conninfo, application_name="test")
        with pytest.RaisesGroup(EmbeddedPostgresError):
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run)
                await fill(pool, 8)
                server.kill()
        for _ in range(20):
            with trio.fail_after(2), pytest.raises(DatabaseUnavailableError):
                await check_works(pool)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            for _ in range(20):
                await check_works(pool)
            await pool.aclose()
            nursery.cancel_scope.cancel()


async def test_one_request_pays_for_a_black_hole(database: str) -> None:
    """Every idle connection is dropped when the first turns out to be dead without a word."""
    async with open_proxy(database) as proxy:
        pool = Pool(proxy.conninfo(), size=4, limit=0.2, application_name="test")
        await fill(pool, 4)
        proxy.fall_silent()
        with trio.fail_after(5), pytest.raises(DatabaseUnavailableError):
            await check_works(pool)
        assert (pool.statistics().idle, pool.statistics().in_use) == (0, 0)
        proxy.speak()
        await check_works(pool)
        await pool.aclose()


async def test_what_is_in_use_while_the_server_is_found_gone_is_dropped_later(
    pool: Pool, observer: Connection
) -> None:
    async with pool.connection() as survivor:
        with pytest.raises(DatabaseUnavailableError):
            async with pool.connection() as connection:
                await observer.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
                await connection.execute("SELECT 1")
        await survivor.execute("SELECT 1")
    assert survivor.closed
    assert pool.statistics().idle == 0


async def test_a_block_that_takes_too_long_is_ended(pool: Pool) -> None:
    with trio.fail_after(5), pytest.raises(DatabaseUnavailableError):
        async with pool.connection(limit=0.1) as connection:
            await connection.execute("SELECT pg_sleep(60)")
    # The server did answer the request to cancel.
    assert (pool.statistics().idle, pool.statistics().dropped, pool.statistics().timeouts) == (1, 0, 1)


async def test_the_limit_holds_for_the_next_statement_when_none_runs(pool: Pool) -> None:
    with pytest.raises(DatabaseUnavailableError):
        async with pool.transaction(limit=0) as connection:
            await trio.sleep(0.3)
            await connection.execute("SELECT 1")
    assert pool.statistics().idle == 1
    await check_works(pool)


async def test_the_limit_holds_for_a_commit(pool: Pool, observer: Connection) -> None:
    await observer.execute(SLOW_COMMIT)
    with trio.fail_after(5), pytest.raises(DatabaseUnavailableError):
        async with pool.transaction(limit=0.1) as connection:
            await connection.execute("INSERT INTO things VALUES (1, 60)")
    assert await (await observer.execute("SELECT * FROM things")).fetchall() == []
    await check_works(pool)


async def test_a_block_may_take_longer_when_it_says_so(database: str) -> None:
    pool = Pool(database, limit=0.05, application_name="test")
    async with pool.connection(limit=math.inf) as connection:
        await connection.execute("SELECT pg_sleep(0.2)")
    await pool.aclose()


async def test_a_server_that_takes_no_writes_is_left_for_another(pool: Pool, observer: Connection) -> None:
    """After a failover the old primary still answers, read-only: connections to it are of no use."""
    await fill(pool, 2)
    name = observer.info.dbname
    await observer.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    await observer.execute(TERMINATE_OTHERS)
    with pytest.raises(DatabaseUnavailableError):
        async with pool.transaction() as connection:
            await connection.execute("CREATE TABLE things (id integer)")
    assert pool.statistics().idle == 0


async def test_a_transaction_that_is_read_only_by_our_own_word_is_a_bug_and_passes(pool: Pool) -> None:
    with pytest.raises(errors.ReadOnlySqlTransaction):
        async with pool.transaction() as connection:
            await connection.execute("SET TRANSACTION READ ONLY")
            await connection.execute("CREATE TABLE things (id integer)")


async def test_a_closed_pool_lends_nothing(pool: Pool) -> None:
    async with pool.connection() as connection:
        await fill(pool, 3)
        await pool.aclose()
    assert connection.closed
    assert (pool.statistics().idle, pool.statistics().in_use) == (0, 0)
    with pytest.raises(DatabaseUnavailableError):
        await check_works(pool)


async def test_ten_thousand_cancels_leave_everything_in_order(database: str, observer: Connection) -> None:
    """Cancels at random moments of statements, transactions, commits and of waiting in line lose nothing."""
    pool = Pool(database, size=8, wait=30, limit=30, application_name="storm")
    dice = random.Random(20)
    await observer.execute("CREATE TABLE things (id bigint GENERATED ALWAYS AS IDENTITY)")
    in_line = in_block = finished = committed = 0

    async def work(connection: Connection) -> None:
        await connection.execute("INSERT INTO things DEFAULT VALUES")
        await connection.execute("SELECT %s::text", ["x" * dice.choice([1, 1, 1, 100_000])])
        await connection.execute("SELECT pg_sleep(%s)", [dice.choice([0, 0, 0, 0.001, 0.1])])

    async def live_dangerously() -> None:
        nonlocal in_line, in_block, finished, committed
        while in_line + in_block < 10_000:
            borrowed = False
            with trio.CancelScope() as scope:
                if dice.random() < 0.2:
                    scope.deadline = trio.current_time() + dice.random() * 0.01
                async with pool.connection() as connection:
                    borrowed = True
                    scope.deadline = trio.current_time() + dice.random() ** 2 * 0.005
                    if dice.random() < 0.3:
                        await connection.execute("SELECT pg_sleep(%s)", [dice.choice([0, 0.001, 0.1])])
                    else:
                        async with connection.transaction():
                            await work(connection)
                        committed += 1
            if not scope.cancelled_caught:
                finished += 1
            elif borrowed:
                in_block += 1
            else:
                in_line += 1

    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(live_dangerously)
    statistics = pool.statistics()
    assert (statistics.in_use, statistics.waiting, statistics.timeouts) == (0, 0, 0)
    assert min(in_line, in_block, finished, committed) > 100
    # What the block said is what happened.
    assert await (await observer.execute("SELECT count(*) FROM things")).fetchall() == [(committed,)]
    states = "SELECT DISTINCT state FROM pg_stat_activity WHERE application_name = 'storm'"
    assert await (await observer.execute(states)).fetchall() == [("idle",)]
    await fill(pool, 8)
    for _ in range(8):
        await check_works(pool)
    await pool.aclose()


async def test_whatever_goes_wrong_no_place_is_lost(database: str, observer: Connection) -> None:
    """Cancels, limits, full lines and dying backends, all at once: afterwards every place can be filled."""
    pool = Pool(database, size=4, wait=0.2, limit=0.2, application_name="storm")
    dice = random.Random(7)
    attempts = unavailable = 0

    async def live_dangerously() -> None:
        nonlocal attempts, unavailable
        while attempts < 2000:
            attempts += 1
            with trio.move_on_after(dice.choice([0.001, 0.01, 1])):
                try:
                    async with pool.transaction(limit=dice.choice([0, 0.1, 10])) as connection:
                        await connection.execute("SELECT pg_sleep(%s)", [dice.choice([0, 0, 0, 0.01, 0.3])])
                except DatabaseUnavailableError:
                    unavailable += 1

    async def terminate() -> None:
        while True:
            await observer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'storm'"
                " ORDER BY random() LIMIT 1"
            )
            await trio.sleep(0.05)

    with trio.fail_after(60):
        async with trio.open_nursery() as terminator:
            terminator.start_soon(terminate)
            async with trio.open_nursery() as nursery:
                for _ in range(12):
                    nursery.start_soon(live_dangerously)
            terminator.cancel_scope.cancel()
    assert unavailable > 10
    statistics = pool.statistics()
    assert (statistics.in_use, statistics.waiting) == (0, 0)
    await fill_in_time(pool, 4)
    assert pool.statistics().in_use == 0
    await pool.aclose()
