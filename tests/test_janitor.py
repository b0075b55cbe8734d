"""The janitor: no chore holds up another, and no backlog is too large to be worked off."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from regsvc.consumer import janitor
from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from tests.databases import run_sql


async def run_until(pool: Pool, done: trio.Event, *chores: tuple[str, janitor.Chore]) -> None:
    """Run a janitor with these chores until one of them has seen to it that it is enough."""
    stopping = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            async def work() -> None:
                await janitor.run_janitor(pool=pool, stopping=stopping, chores=chores)

            nursery.start_soon(work)
            await done.wait()
            stopping.set()


def note(done: trio.Event) -> janitor.Chore:
    async def chore(conn: Connection, limit: int) -> int:
        done.set()
        return 0

    return chore


def fail(error: Callable[[], Exception]) -> janitor.Chore:
    async def chore(conn: Connection, limit: int) -> int:
        raise error()

    return chore


async def test_a_chore_that_does_not_fit_lets_the_next_one_go(pool: Pool) -> None:
    done = trio.Event()
    await run_until(pool, done, ("stuck", fail(DatabaseUnavailableError)), ("next", note(done)))


async def test_a_bug_in_a_chore_is_raised_after_the_others_had_their_turn(pool: Pool) -> None:
    done = trio.Event()
    with pytest.raises(ExceptionGroup) as raised:
        await run_until(pool, done, ("broken", fail(ZeroDivisionError)), ("next", note(done)))
    assert done.is_set()
    assert raised.group_contains(ZeroDivisionError)


async def test_a_database_that_is_away_ends_the_janitor(pool: Pool) -> None:
    """Its supervisor says so, and starts it again."""
    away = fail(DatabaseUnavailableError)
    with pytest.raises(BaseExceptionGroup) as raised:
        await run_until(pool, trio.Event(), ("one", away), ("other", away))
    assert raised.group_contains(DatabaseUnavailableError)


async def test_a_batch_that_takes_too_long_is_halved_until_it_fits(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that needs 10 ms a row never ends within a second if it begins with 500 of them."""
    pool = Pool(database, limit=0.8, application_name="regsvc test")
    done, sizes, left = trio.Event(), list[int](), 300

    async def chore(conn: Connection, limit: int) -> int:
        nonlocal left
        sizes.append(limit)
        size = min(limit, left)
        await conn.execute("SELECT pg_sleep(0.01 * %(rows)s)", {"rows": size})
        left -= size
        if not left:
            done.set()
        return size

    async def other(conn: Connection, limit: int) -> int:
        return 0

    monkeypatch.setattr(janitor, "EVERY", 0.01)
    await run_until(pool, done, ("slow", chore), ("other", other))
    await pool.aclose()
    assert left == 0
    assert sizes[0] == janitor.BATCH
    assert min(sizes) < 80


async def test_a_backlog_of_one_chore_is_interrupted_for_the_others(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "SHARE", 0.05)
    done = trio.Event()

    async def endless(conn: Connection, limit: int) -> int:
        await conn.execute("SELECT pg_sleep(0.001)")
        return limit

    await run_until(pool, done, ("endless", endless), ("next", note(done)))


async def test_sessions_that_kept_thousands_of_tokens_are_ended(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting them with all of their tokens takes longer than a statement may."""
    run_sql(
        database,
        """
        INSERT INTO users (id, email, email_key, name, password_hash)
        VALUES (md5('u')::uuid, 'a@b.c', 'a@b.c', 'A', 'x');
        INSERT INTO sessions (id, user_id, origin, client, expires_at)
        SELECT md5(n::text)::uuid, md5('u')::uuid, 'o', 'c', now() FROM generate_series(1, 60) n;
        INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
        SELECT sha256((n || ' ' || t)::bytea), md5(n::text)::uuid, now()
          FROM generate_series(1, 60) n, generate_series(1, 1000) t
        """,
    )
    monkeypatch.setattr(janitor, "EVERY", 0.01)
    pool = Pool(database, limit=0.2, application_name="regsvc test")
    done = trio.Event()

    async def look(conn: Connection, limit: int) -> int:
        cursor = await conn.execute(
            "SELECT (SELECT count(*) FROM sessions) + (SELECT count(*) FROM refresh_tokens)"
        )
        if await cursor.fetchone() == (0,):
            done.set()
        return 0

    chores = [
        (name, chore)
        for name, chore in janitor.CHORES
        if name in {"refresh tokens purged", "sessions purged"}
    ]
    await run_until(pool, done, *chores, ("look", look))
    await pool.aclose()
