"""Sessions and the refresh tokens that keep them alive."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID, uuid4

import pytest
import trio

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions import refresh_token as grants
from regsvc.accounts.sessions import session
from regsvc.accounts.sessions.refresh_token import Grant, Reuse
from regsvc.accounts.sessions.session_start import start_session
from regsvc.accounts.users.acting_user import find_acting_users
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import hash_legacy_token
from tests.accounts.attempts import SECRETS


async def log_in(pool: Pool) -> Grant:
    user_id = uuid4()
    async with pool.transaction() as conn:
        await conn.execute(
            "INSERT INTO users (id, email, email_key, name, password_hash) VALUES (%s, 'a@b.c', %s, 'A', 'hash')",
            (user_id, str(user_id)),
        )
        return await start(conn, user_id)


async def start(conn: Connection, user_id: UUID, password_hash: str = "hash") -> Grant:
    return await start_session(
        conn, SECRETS, user_id, password_hash=password_hash, origin="192.0.2.0/24", client="curl"
    )


async def refresh(pool: Pool, token: str, *, limited: bool = False) -> Grant | Reuse:
    async with pool.transaction() as conn:
        return await grants.refresh_session(conn, SECRETS, token, limited=limited)


async def renew(pool: Pool, token: str, *, limited: bool = False) -> Grant:
    renewed = await refresh(pool, token, limited=limited)
    assert isinstance(renewed, Grant)
    return renewed


async def is_alive(pool: Pool, session_id: UUID) -> bool:
    async with pool.connection() as conn:
        return session_id in await find_acting_users(conn, [session_id])


async def sql(pool: Pool, statement: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(statement.encode())


async def test_a_refresh_token_is_exchanged_for_its_child(pool: Pool) -> None:
    grant = await log_in(pool)
    child = await renew(pool, grant.refresh_token)
    assert child.refresh_token != grant.refresh_token
    assert (child.session_id, child.user_id) == (grant.session_id, grant.user_id)
    await renew(pool, child.refresh_token)


async def test_fifty_parallel_refreshes_give_one_child_and_log_nobody_out(pool: Pool) -> None:
    grant = await log_in(pool)
    children: set[str] = set()

    async def one() -> None:
        child = await renew(pool, grant.refresh_token)
        children.add(child.refresh_token)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert len(children) == 1
    assert await is_alive(pool, grant.session_id)


async def test_a_token_that_comes_back_after_the_grace_ends_the_session(pool: Pool) -> None:
    grant = await log_in(pool)
    child = await renew(pool, grant.refresh_token)
    await sql(pool, "UPDATE sessions SET refreshed_at = refreshed_at - interval '10 seconds'")
    assert await refresh(pool, grant.refresh_token) == Reuse(grant.session_id, grant.user_id)
    assert not await is_alive(pool, grant.session_id)
    with pytest.raises(grants.RefreshTokenInvalidError):
        await refresh(pool, child.refresh_token)


async def test_a_token_whose_child_was_used_ends_the_session_even_within_the_grace(pool: Pool) -> None:
    grant = await log_in(pool)
    child = await renew(pool, grant.refresh_token)
    await refresh(pool, child.refresh_token)
    assert await refresh(pool, grant.refresh_token) == Reuse(grant.session_id, grant.user_id)
    assert not await is_alive(pool, grant.session_id)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sessions SET created_at = now() - interval '7 days'",
        "UPDATE sessions SET expires_at = now()",
        "UPDATE sessions SET ended_at = now(), ended_reason = 'logout'",
        "UPDATE users SET disabled_at = now()",
    ],
)
async def test_an_expired_ended_or_disabled_session_is_not_refreshed(pool: Pool, statement: str) -> None:
    grant = await log_in(pool)
    await sql(pool, statement)
    with pytest.raises(grants.RefreshTokenInvalidError):
        await refresh(pool, grant.refresh_token)


async def test_a_token_that_was_used_ends_the_session_however_old_it_is(pool: Pool) -> None:
    grant = await log_in(pool)
    await renew(pool, grant.refresh_token)
    await sql(pool, "UPDATE sessions SET refreshed_at = refreshed_at - interval '8 days'")
    assert isinstance(await refresh(pool, grant.refresh_token), Reuse)
    assert not await is_alive(pool, grant.session_id)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET password_hash = 'another'",
        "UPDATE users SET disabled_at = now()",
        "DELETE FROM users",
    ],
)
async def test_who_was_changed_while_the_password_was_checked_is_not_logged_in(
    pool: Pool, statement: str
) -> None:
    grant = await log_in(pool)
    await sql(pool, statement)
    with pytest.raises(grants.CredentialsChangedError):
        async with pool.transaction() as conn:
            await start(conn, grant.user_id)


async def test_a_password_that_changes_while_somebody_logs_in_with_the_old_one_ends_that_session(
    pool: Pool,
) -> None:
    user_id = (await log_in(pool)).user_id
    locked = trio.Event()

    async def change() -> None:
        await locked.wait()
        async with pool.transaction() as conn:
            await conn.execute("UPDATE users SET password_hash = 'another'")
            await session.end_all_sessions(conn, user_id, reason="password_changed")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        async with pool.transaction() as conn:
            late = await start(conn, user_id)
            locked.set()
            await wait_for_lock(pool)
    assert not await is_alive(pool, late.session_id)


async def wait_for_lock(pool: Pool) -> None:
    """Wait until some statement waits for another."""
    with trio.fail_after(10):
        while True:
            async with pool.connection() as conn:
                cursor = await conn.execute("SELECT FROM pg_locks WHERE NOT granted")
                if await cursor.fetchone() is not None:
                    return
            await trio.sleep(0.01)


async def test_the_sessions_of_a_disabled_user_are_not_alive(pool: Pool) -> None:
    grant = await log_in(pool)
    await sql(pool, "UPDATE users SET disabled_at = now()")
    assert not await is_alive(pool, grant.session_id)


async def test_all_sessions_end_but_the_one_to_keep(pool: Pool) -> None:
    kept = await log_in(pool)
    async with pool.transaction() as conn:
        others = [await start(conn, kept.user_id) for _ in range(3)]
        assert await session.end_all_sessions(conn, kept.user_id, reason="test", keep=kept.session_id) == 3
    assert await is_alive(pool, kept.session_id)
    assert not any([await is_alive(pool, other.session_id) for other in others])


async def test_only_sessions_that_can_still_be_used_are_listed_those_used_last_first(pool: Pool) -> None:
    first = await log_in(pool)
    async with pool.transaction() as conn:
        others = [await start(conn, first.user_id) for _ in range(3)]
        await session.end_session(conn, others[0].session_id, reason="logout")
    await sql(
        pool,
        f"""
        UPDATE sessions SET last_used_at = now() - interval '8 days' WHERE id = '{others[1].session_id}';
        UPDATE sessions SET last_used_at = now() - interval '1 day' WHERE id = '{first.session_id}'
        """,
    )
    async with pool.connection() as conn:
        found = await session.list_sessions(conn, first.user_id)
    assert [each.id for each in found] == [others[2].session_id, first.session_id]
    assert found[1].expires_at - found[1].last_used_at == session.IDLE_LIFE


async def test_an_unknown_token_is_invalid(pool: Pool) -> None:
    with pytest.raises(grants.RefreshTokenInvalidError):
        await refresh(pool, "unknown")


async def test_a_refresh_token_lives_7_days_and_never_longer_than_its_session(pool: Pool) -> None:
    grant = await log_in(pool)
    assert grant.refresh_expires_in == pytest.approx(7 * 86400, abs=5)
    await sql(pool, "UPDATE sessions SET expires_at = now() + interval '1 hour'")
    child = await renew(pool, grant.refresh_token)
    assert child.refresh_expires_in == pytest.approx(3600, abs=5)


async def test_the_database_holds_no_token(pool: Pool) -> None:
    grant = await log_in(pool)
    child = await renew(pool, grant.refresh_token)
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT s::text FROM sessions s UNION ALL SELECT t::text FROM refresh_tokens t"
        )
        rows = [row[0] for row in await cursor.fetchall()]
    assert rows
    for token in (grant.refresh_token, child.refresh_token):
        assert not any(token in row or token[-40:] in row for row in rows)


async def test_a_session_is_one_row_however_often_it_is_refreshed(pool: Pool) -> None:
    grant = await log_in(pool)
    first = grant.refresh_token
    for _ in range(30):
        grant = await renew(pool, grant.refresh_token)
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM refresh_tokens)"
        )
        assert await cursor.fetchone() == (1, 0)
    assert isinstance(await refresh(pool, first), Reuse)  # for ever, without a row


async def test_those_that_come_in_the_wake_of_a_refresh_write_nothing(pool: Pool) -> None:
    grant = await log_in(pool)
    child = await renew(pool, grant.refresh_token)
    before = await read_version(pool)
    assert (await renew(pool, grant.refresh_token)).refresh_token == child.refresh_token
    assert await read_version(pool) == before


async def read_version(pool: Pool) -> object:
    """Return what changes whenever the row of the one session is written or locked."""
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT xmin::text, xmax::text, ctid::text FROM sessions")
        return await cursor.fetchone()


async def test_a_loop_of_refreshes_is_held_back_and_loses_no_session(pool: Pool) -> None:
    grant = await log_in(pool)
    for _ in range(grants.PACE.quota):
        grant = await renew(pool, grant.refresh_token, limited=True)
    before = await read_version(pool)
    with pytest.raises(RateLimitedError) as refused:
        await refresh(pool, grant.refresh_token, limited=True)
    assert 0 < refused.value.retry_after <= grants.PACE.seconds
    assert await read_version(pool) == before  # refusing costs no write
    await sql(pool, "UPDATE sessions SET refresh_pace = now()")
    await renew(pool, grant.refresh_token, limited=True)


async def test_fifty_parallel_refreshes_are_no_loop(pool: Pool) -> None:
    grant = await log_in(pool)
    children: set[str] = set()

    async def one() -> None:
        children.add((await renew(pool, grant.refresh_token, limited=True)).refresh_token)

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    assert len(children) == 1


async def test_a_token_survives_a_database_that_forgot_the_last_refreshes(pool: Pool) -> None:
    """A standby may lack the last moments; the token that the client has is genuine, and none before it is good."""
    grant = await log_in(pool)
    child = await renew(pool, grant.refresh_token)
    await sql(pool, "UPDATE sessions SET refresh_count = 0, refreshed_at = NULL")
    await renew(pool, child.refresh_token)
    assert isinstance(await refresh(pool, grant.refresh_token), Reuse)


@pytest.mark.parametrize("place", [0, 20, 25, 69], ids=["session", "number", "mac", "end"])
async def test_a_forged_token_is_invalid(pool: Pool, place: int) -> None:
    text = (await log_in(pool)).refresh_token
    forged = text[:place] + ("A" if text[place] != "A" else "Q") + text[place + 1 :]
    with pytest.raises(grants.RefreshTokenInvalidError):
        await refresh(pool, forged)


async def keep_legacy_token(pool: Pool, grant: Grant, text: str, *, days: int = 7) -> None:
    """Give a session a refresh token as those before 0.2 were."""
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO refresh_tokens (token_hash, session_id, expires_at)"
            " VALUES (%s, %s, now() + %s * interval '1 day')",
            (hash_legacy_token(text), grant.session_id, days),
        )


async def test_a_token_from_before_they_were_numbered_is_exchanged_once(pool: Pool) -> None:
    grant = await log_in(pool)
    await keep_legacy_token(pool, grant, "legacy")
    children: set[str] = set()

    async def one() -> None:
        children.add((await renew(pool, "legacy")).refresh_token)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(one)
    (child,) = children
    await renew(pool, child)
    assert await refresh(pool, "legacy") == Reuse(grant.session_id, grant.user_id)
    assert not await is_alive(pool, grant.session_id)


async def test_a_token_from_before_that_comes_back_after_the_grace_ends_the_session(pool: Pool) -> None:
    grant = await log_in(pool)
    await keep_legacy_token(pool, grant, "legacy")
    await renew(pool, "legacy")
    await sql(pool, "UPDATE refresh_tokens SET used_at = used_at - interval '10 seconds'")
    assert isinstance(await refresh(pool, "legacy"), Reuse)


async def test_a_token_from_before_expires_when_it_was_to(pool: Pool) -> None:
    grant = await log_in(pool)
    await keep_legacy_token(pool, grant, "legacy", days=-1)
    with pytest.raises(grants.RefreshTokenInvalidError):
        await refresh(pool, "legacy")


async def test_a_token_and_its_child_presented_at_once_do_not_wait_for_each_other(pool: Pool) -> None:
    for _ in range(20):
        grant = await log_in(pool)
        child = await renew(pool, grant.refresh_token)
        async with trio.open_nursery() as nursery:
            for token in (grant.refresh_token, child.refresh_token) * 4:
                nursery.start_soon(refresh_if_alive, pool, token)


async def refresh_if_alive(pool: Pool, token: str) -> None:
    with suppress(grants.RefreshTokenInvalidError):  # the reuse was noticed, which is another test's concern
        await refresh(pool, token)
