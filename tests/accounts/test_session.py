"""Sessions and the refresh tokens that keep them alive."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID, uuid4

import pytest
import trio

from regsvc.accounts import session
from regsvc.accounts.session import Grant
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import SECRETS


async def log_in(pool: Pool) -> Grant:
    user_id = uuid4()
    async with pool.transaction() as conn:
        await conn.execute(
            "INSERT INTO users (id, email, email_key, name, password_hash) VALUES (%s, 'a@b.c', %s, 'A', 'hash')",
            (user_id, str(user_id)),
        )
        return await session.start_session(conn, user_id, role="user", origin="192.0.2.0/24", client="curl")


async def refresh(pool: Pool, token: str) -> Grant | None:
    async with pool.transaction() as conn:
        return await session.refresh_session(conn, SECRETS, token)


async def is_alive(pool: Pool, session_id: UUID) -> bool:
    async with pool.connection() as conn:
        return await session.is_alive(conn, session_id)


async def sql(pool: Pool, statement: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(statement.encode())


async def test_a_refresh_token_is_exchanged_for_its_child(pool: Pool) -> None:
    grant = await log_in(pool)
    child = await refresh(pool, grant.refresh_token)
    assert child is not None
    assert child.refresh_token != grant.refresh_token
    assert (child.session_id, child.user_id) == (grant.session_id, grant.user_id)
    assert await refresh(pool, child.refresh_token) is not None


async def test_fifty_parallel_refreshes_give_one_child_and_log_nobody_out(pool: Pool) -> None:
    grant = await log_in(pool)
    children: set[str] = set()

    async def one() -> None:
        child = await refresh(pool, grant.refresh_token)
        assert child is not None
        children.add(child.refresh_token)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert len(children) == 1
    assert await is_alive(pool, grant.session_id)


async def test_a_token_that_comes_back_after_the_grace_ends_the_session(pool: Pool) -> None:
    grant = await log_in(pool)
    child = await refresh(pool, grant.refresh_token)
    assert child is not None
    await sql(pool, "UPDATE refresh_tokens SET used_at = used_at - interval '10 seconds'")
    assert await refresh(pool, grant.refresh_token) is None
    assert not await is_alive(pool, grant.session_id)
    with pytest.raises(session.RefreshTokenInvalidError):
        await refresh(pool, child.refresh_token)


async def test_a_token_whose_child_was_used_ends_the_session_even_within_the_grace(pool: Pool) -> None:
    grant = await log_in(pool)
    child = await refresh(pool, grant.refresh_token)
    assert child is not None
    await refresh(pool, child.refresh_token)
    assert await refresh(pool, grant.refresh_token) is None
    assert not await is_alive(pool, grant.session_id)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE refresh_tokens SET expires_at = now()",
        "UPDATE sessions SET expires_at = now()",
        "UPDATE sessions SET ended_at = now(), ended_reason = 'logout'",
        "UPDATE users SET disabled_at = now()",
    ],
)
async def test_an_expired_ended_or_disabled_session_is_not_refreshed(pool: Pool, statement: str) -> None:
    grant = await log_in(pool)
    await sql(pool, statement)
    with pytest.raises(session.RefreshTokenInvalidError):
        await refresh(pool, grant.refresh_token)


async def test_an_unknown_token_is_invalid(pool: Pool) -> None:
    with pytest.raises(session.RefreshTokenInvalidError):
        await refresh(pool, "unknown")


async def test_a_refresh_token_lives_7_days_and_never_longer_than_its_session(pool: Pool) -> None:
    grant = await log_in(pool)
    assert grant.refresh_expires_in == pytest.approx(7 * 86400, abs=5)
    await sql(pool, "UPDATE sessions SET expires_at = now() + interval '1 hour'")
    child = await refresh(pool, grant.refresh_token)
    assert child is not None
    assert child.refresh_expires_in == pytest.approx(3600, abs=5)


async def test_the_database_holds_no_token(pool: Pool) -> None:
    grant = await log_in(pool)
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT t::text FROM refresh_tokens t")
        rows = [row[0] for row in await cursor.fetchall()]
    assert grant.refresh_token not in rows[0]


async def test_a_token_and_its_child_presented_at_once_do_not_wait_for_each_other(pool: Pool) -> None:
    for _ in range(20):
        grant = await log_in(pool)
        child = await refresh(pool, grant.refresh_token)
        assert child is not None
        async with trio.open_nursery() as nursery:
            for token in (grant.refresh_token, child.refresh_token) * 4:
                nursery.start_soon(refresh_if_alive, pool, token)


async def refresh_if_alive(pool: Pool, token: str) -> None:
    with suppress(session.RefreshTokenInvalidError):  # the reuse was noticed, which is another test's concern
        await refresh(pool, token)
