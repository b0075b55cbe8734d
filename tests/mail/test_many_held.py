"""However many mails an outage held back, closing the breaker is one small write and sending goes on at once."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta

from regsvc.accounts.registrations import mail_status
from regsvc.mail.outcome import Accepted, Refused
from regsvc.mail.queue import bookings, breaker, jobs, retry_policy
from regsvc.mail.queue.bookings import Held, Retry
from regsvc.mail.queue.verdict import Evidence
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import sign_up
from tests.mail.test_courier import run_sending
from tests.smtp_servers import ScriptedServer

MAILS = int(os.environ.get("REGSVC_TEST_HELD_MAILS", "60000"))
"""As many as the old way, an UPDATE of them all, could not do within the time that a statement has here."""

_AT_ONCE = 50_000
HELD = """
    WITH people AS (
        INSERT INTO registrations (id, email, email_key, name, locale, password_hash, origin, client,
                                   state, next_try_at, reason)
        SELECT gen_random_uuid(), format('u%%s@d%%s.example', n, n %% 50), format('u%%s@d%%s.example', n, n %% 50),
               'Ann', 'en', '$regsvc$none', '192.0.2.0/24', 'curl', 'delayed', now() + interval '1 hour', 'auth_failed'
          FROM generate_series(1, %(count)s) n
        RETURNING id
    )
    INSERT INTO mails (id, registration_id, kind, state, due_at, reason, waits, created_at, changed_at)
    SELECT gen_random_uuid(), id, 'signup', 'delayed', now() + interval '1 hour', 'auth_failed', 0,
           now() - interval '2 days' * random(), now() - interval '1 hour' * random()
      FROM people
"""


async def hold(pool: Pool, count: int) -> None:
    """Have the breaker open and so many mails held."""
    async with pool.connection(limit=300) as conn:
        await breaker.note_outcomes(conn, [Evidence(Refused("auth_failed", "auth", "535 5.7.8 no"))])
        for done in range(0, count, _AT_ONCE):  # a statement has a minute
            await conn.execute(HELD, {"count": min(count - done, _AT_ONCE)})
        await conn.execute("VACUUM ANALYZE mails, registrations")


async def pages_read(conn: Connection) -> int:
    """Return the pages of mails and its indexes that this session has touched so far."""
    await conn.execute("SELECT pg_stat_force_next_flush()")
    cursor = await conn.execute(
        "SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit"
        "  FROM pg_statio_user_tables WHERE relname = 'mails'"
    )
    (pages,) = await cursor.fetchone() or (0,)
    return int(pages)


async def test_closing_is_quick_and_what_waited_is_sent_at_once(pool: Pool, database: str) -> None:
    await hold(pool, MAILS)
    async with pool.connection() as conn:
        await conn.execute("UPDATE mail_breaker SET probe_at = now()")
    small = Pool(
        database, size=4, limit=0.8, application_name="regsvc test"
    )  # seconds a statement has, but bookings
    try:
        async with ScriptedServer().running() as smtp, run_sending(small, database, smtp):
            await smtp.wait(lambda: len(smtp.mails) >= 300, seconds=60)
            async with pool.connection() as conn:
                state = await breaker.get_breaker(conn)
            assert (state.open, state.closed) == (False, 1)
    finally:
        await small.aclose()


async def test_what_closing_probing_and_claiming_read_does_not_grow_with_what_is_held(pool: Pool) -> None:
    await hold(pool, 20_000)
    read: list[int] = []
    for _ in range(3):  # plans are made anew for a while
        async with pool.connection() as conn:
            before = await pages_read(conn)
            await conn.execute("UPDATE mail_breaker SET probe_at = now()")
            async with conn.transaction():
                state = await breaker.get_breaker(conn)
                (probe,) = await breaker.claim_probe(conn, state)
            async with conn.transaction():
                await bookings.book_sent(conn, [(bookings.Sent(probe, "250 ok"), "confirm")])
            assert await breaker.note_outcomes(conn, [Evidence(Accepted("250 ok"))]) is False
            state = await breaker.get_breaker(conn)
            assert state.recovered_for is not None
            assert await breaker.claim_next(conn, state, limit=10) != []
            assert (
                await breaker.note_outcomes(conn, [Evidence(Refused("auth_failed", "auth", "535"))]) is True
            )
            read.append(await pages_read(conn) - before)
    assert max(read) < 1_000  # of some 1,500 that the table alone has


async def test_a_mail_held_back_for_its_address_looks_at_no_others(pool: Pool) -> None:
    await hold(pool, 20_000)
    first, second = await sign_up(pool), await sign_up(pool)
    async with pool.connection() as conn:
        await conn.execute("ANALYZE mails, registrations")
        held = await jobs.claim_mails(conn, [first.mail_id, second.mail_id])
        cursor = await conn.execute("SELECT now() + interval '1 minute'")
        (until,) = await cursor.fetchone() or (None,)
        before = await pages_read(conn)
        async with conn.transaction():
            await mail_status.show_sent(conn, [job.id for job in held])
            assert len(await bookings.book_held(conn, [Held(job, until) for job in held])) == 2
        assert await pages_read(conn) - before < 500
        cursor = await conn.execute(
            "SELECT count(*) FROM mails WHERE state = 'cancelled' AND reason = 'coalesced'"
        )
        assert await cursor.fetchone() == (1,)


async def test_released_mails_are_taken_slowly_at_first_and_a_lone_one_at_once(pool: Pool) -> None:
    await hold(pool, 200)
    async with pool.connection() as conn:
        await breaker.note_outcomes(conn, [Evidence(Accepted("250 ok"))])
        state = await breaker.get_breaker(conn)
        assert 1 <= len(await breaker.claim_next(conn, state, limit=64)) < 16
        await conn.execute("UPDATE mail_breaker SET recovered_at = now() - interval '60 seconds'")
        state = await breaker.get_breaker(conn)
        assert len(await breaker.claim_next(conn, state, limit=64)) == 64


async def test_once_all_that_was_released_is_taken_no_claim_looks_for_more(pool: Pool) -> None:
    await hold(pool, 1)
    async with pool.connection() as conn:
        await breaker.note_outcomes(conn, [Evidence(Accepted("250 ok"))])
        state = await breaker.get_breaker(conn)
        assert len(await breaker.claim_next(conn, state, limit=64)) == 1
        await breaker.note_released(conn, state)  # a mail that was being held may still be booked
        assert (await breaker.get_breaker(conn)).recovered_for is not None
        await conn.execute("UPDATE mail_breaker SET recovered_at = now() - interval '61 seconds'")
        await breaker.note_released(conn, await breaker.get_breaker(conn))
        assert (await breaker.get_breaker(conn)).recovered_for is None


async def test_a_held_mail_is_looked_at_less_often_the_older_it_is(pool: Pool) -> None:
    """A million mails that wait for days must not be written every half hour."""
    await hold(pool, 1)
    async with pool.connection() as conn:
        state = await breaker.get_breaker(conn)
        (job,) = await jobs.claim_waiting(conn, None, beyond=timedelta(0))
    steps = [retry_policy.hold(replace(job, age=timedelta(hours=hours)), state) for hours in (0, 1, 3, 60)]
    assert [step.after for step in steps if isinstance(step, Retry)] == [
        timedelta(hours=hours) for hours in (0.5, 1, 3, 4)
    ]
