"""Who acts by a session: alive, of an active user, looked up together with others and never from memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import psycopg
import pytest
import trio
import trio.testing

from regsvc.accounts.sessions.session import end_session
from regsvc.accounts.sessions.session_start import start_session
from regsvc.accounts.users.acting_user import ActingUsers
from regsvc.accounts.users.user import User, get_user
from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets
from tests.accounts.users import add_user

SECRETS = Secrets(b"a secret of the tests with 32 bytes")


class CountingPool(Pool):
    """A pool that counts how often a connection is lent."""

    lent = 0

    @asynccontextmanager
    async def connection(
        self, *, limit: float | None = None, alone: bool = False
    ) -> AsyncIterator[Connection]:
        """Count, and lend."""
        self.lent += 1
        async with super().connection(limit=limit, alone=alone) as conn:
            yield conn


@pytest.fixture
async def counting(database: str) -> AsyncIterator[CountingPool]:
    counting = CountingPool(database, application_name="counting", limit=20)
    yield counting
    await counting.aclose()


async def add_session(pool: Pool, email: str = "ann@example.com") -> tuple[UUID, UUID]:
    """Return a new user and their session."""
    user_id = await add_user(pool, email)
    async with pool.transaction() as conn:
        grant = await start_session(
            conn, SECRETS, user_id, password_hash="hash", origin="192.0.2.0/24", client="curl"
        )
    return user_id, grant.session_id


@asynccontextmanager
async def held(database: str) -> AsyncIterator[Connection]:
    """Have every look-up wait until the block ends."""
    async with await Connection.connect(database) as holder, holder.transaction():
        await holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        yield holder


async def wait_held(pool: Pool, count: int) -> None:
    """Wait until so many statements wait for the lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'counting'"
    with trio.fail_after(10):
        while True:
            async with pool.connection() as conn:
                if await (await conn.execute(waiting)).fetchone() == (count,):
                    return
            await trio.sleep(0.005)


async def test_the_profile_is_that_of_the_database(pool: Pool) -> None:
    user_id, session_id = await add_session(pool)
    async with pool.connection() as conn:
        assert await ActingUsers(pool).find(session_id) == await get_user(conn, user_id) != None  # noqa: E711


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE sessions SET ended_at = now(), ended_reason = 'logout'",
        "UPDATE sessions SET expires_at = now()",
        "UPDATE users SET disabled_at = now()",
    ],
    ids=["ended", "expired", "disabled"],
)
async def test_a_session_that_may_not_act_is_seen_at_the_next_look_up(pool: Pool, change: str) -> None:
    _, session_id = await add_session(pool)
    acting = ActingUsers(pool)
    assert await acting.find(session_id) is not None
    async with pool.connection() as conn:
        await conn.execute(change.encode())
    assert await acting.find(session_id) is None
    assert await acting.find(uuid4()) is None


async def test_a_look_up_alone_takes_one_connection_and_one_statement(
    pool: Pool, counting: CountingPool
) -> None:
    _, session_id = await add_session(pool)
    acting = ActingUsers(counting)
    for _ in range(3):
        await acting.find(session_id)
    assert counting.lent == 3


async def test_look_ups_that_begin_while_one_is_under_way_are_joined(
    database: str, pool: Pool, counting: CountingPool
) -> None:
    sessions = [await add_session(pool, f"person{number}@example.com") for number in range(20)]
    acting = ActingUsers(counting)
    found: dict[UUID, User | None] = {}

    async def find(session_id: UUID) -> None:
        found[session_id] = await acting.find(session_id)

    async with trio.open_nursery() as nursery, held(database):
        for _, session_id in sessions:
            nursery.start_soon(find, session_id)
        nursery.start_soon(find, uuid4())
        await trio.testing.wait_all_tasks_blocked()
    assert counting.lent == 2
    users = {session_id: user.id if user else None for session_id, user in found.items()}
    assert [users[session_id] for _, session_id in sessions] == [user_id for user_id, _ in sessions]
    assert len(users) == 21


async def test_a_session_that_ended_before_the_request_began_is_not_answered_by_an_older_statement(
    database: str, pool: Pool, counting: CountingPool
) -> None:
    _, session_id = await add_session(pool)
    acting = ActingUsers(counting)
    answers = []

    async def find() -> None:
        answers.append(await acting.find(session_id))

    async with trio.open_nursery() as nursery, held(database):
        nursery.start_soon(find)
        await wait_held(pool, 1)
        async with pool.connection() as conn:
            await end_session(conn, session_id, reason="logout")
        nursery.start_soon(find)
        await trio.testing.wait_all_tasks_blocked()
    assert answers[-1] is None


async def test_a_request_that_is_cancelled_takes_none_of_the_others_with_it(
    database: str, pool: Pool, counting: CountingPool
) -> None:
    user_id, session_id = await add_session(pool)
    acting = ActingUsers(counting)
    answers = []
    scopes = [trio.CancelScope() for _ in range(5)]

    async def find(scope: trio.CancelScope) -> None:
        with scope:
            answers.append(await acting.find(session_id))

    async with trio.open_nursery() as nursery, held(database):
        for scope in scopes:
            nursery.start_soon(find, scope)
        await trio.testing.wait_all_tasks_blocked()
        scopes[0].cancel()  # it looks up, or has all look up
        scopes[3].cancel()
        await trio.testing.wait_all_tasks_blocked()
    assert [user and user.id for user in answers] == [user_id] * 3


async def test_a_stuck_look_up_holds_up_none_that_begins_later(
    database: str, pool: Pool, counting: CountingPool
) -> None:
    _, session_id = await add_session(pool)
    acting = ActingUsers(counting)
    async with trio.open_nursery() as nursery, held(database) as holder:
        nursery.start_soon(acting.find, session_id)
        await wait_held(pool, 1)
        await trio.sleep(0.06)  # it counts as stuck then
        nursery.start_soon(acting.find, session_id)
        await wait_held(pool, 2)
        await holder.execute("SELECT 1")
    assert counting.lent == 2


async def test_all_are_told_when_the_database_fails(
    database: str, pool: Pool, counting: CountingPool
) -> None:
    _, session_id = await add_session(pool)
    acting = ActingUsers(counting)
    told = []

    async def find() -> None:
        try:
            await acting.find(session_id)
        except DatabaseUnavailableError as error:
            told.append(error)

    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'counting'"
    async with trio.open_nursery() as nursery, held(database):
        nursery.start_soon(find)
        await wait_held(pool, 1)
        with psycopg.connect(database, autocommit=True) as conn:
            conn.execute(terminate.encode())
        await trio.testing.wait_all_tasks_blocked()
    assert len(told) == 1
    assert await acting.find(session_id) is not None
