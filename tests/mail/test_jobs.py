"""The mail job as a state machine in PostgreSQL."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio

from regsvc.jobs.leases import renew_leases
from regsvc.mail.queue import bookings, jobs, leases
from regsvc.mail.queue.bookings import Ended, Held, Retry, Sent
from regsvc.mail.queue.jobs import Job
from regsvc.mail.queue.retry_policy import retry_delay
from tests.accounts.attempts import sign_up

if TYPE_CHECKING:
    from uuid import UUID

    from regsvc.postgres.pool import Pool


async def claim(pool: Pool, *mail_ids: UUID) -> list[Job]:
    async with pool.connection() as conn:
        return await jobs.claim_mails(conn, mail_ids)


async def take_due(pool: Pool, *, overdue: timedelta = timedelta(0)) -> list[Job]:
    async with pool.connection() as conn:
        return await jobs.claim_due(conn, 100, overdue=overdue)


async def rewind(pool: Pool, by: str) -> None:
    """Let time pass for every open mail."""
    async with pool.connection() as conn:
        await conn.execute(
            f"UPDATE mails SET due_at = due_at - interval '{by}', "
            f"published_at = published_at - interval '{by}' WHERE due_at IS NOT NULL"
        )


async def column(pool: Pool, name: str) -> object:
    async with pool.connection() as conn:
        cursor = await conn.execute(f"SELECT {name} FROM mails")
        row = await cursor.fetchone()
        assert row is not None
        return row[0]


async def test_a_new_mail_is_due_and_is_claimed_once(pool: Pool) -> None:
    new = await sign_up(pool)
    (job,) = await take_due(pool)
    assert (job.id, job.registration_id, job.attempts) == (new.mail_id, new.id, 1)
    assert await take_due(pool) == []
    assert await claim(pool, new.mail_id) == []


async def test_a_mail_is_taken_up_again_when_its_lease_runs_out_and_not_before(pool: Pool) -> None:
    new = await sign_up(pool)
    await take_due(pool)
    await rewind(pool, "44 seconds")
    assert await take_due(pool) == []
    await rewind(pool, "1 second")
    (job,) = await claim(pool, new.mail_id)
    assert job.attempts == 2


async def test_a_renewed_lease_holds_and_a_lost_one_says_so(pool: Pool) -> None:
    await sign_up(pool)
    (job,) = await take_due(pool)
    await rewind(pool, "44 seconds")
    async with pool.connection() as conn:
        assert await renew_leases(conn, jobs.MAIL_JOBS, [job]) == {job.id}
    await rewind(pool, "44 seconds")
    assert await take_due(pool) == []
    await rewind(pool, "2 seconds")
    (other,) = await take_due(pool)
    async with pool.connection() as conn:
        assert await renew_leases(conn, jobs.MAIL_JOBS, [job]) == set()
        assert await renew_leases(conn, jobs.MAIL_JOBS, [other]) == {other.id}


async def test_what_was_sent_under_a_lost_lease_is_not_sent_again(pool: Pool) -> None:
    await sign_up(pool)
    (job,) = await take_due(pool)
    await rewind(pool, "1 minute")
    (other,) = await take_due(pool)
    async with pool.connection() as conn:
        assert await bookings.book_sent(conn, [(Sent(job, "250 ok"), "confirm")]) == [job.id]
        assert await renew_leases(conn, jobs.MAIL_JOBS, [other]) == set()
        assert await bookings.book_retries(conn, [Retry(other, timedelta(seconds=5), "timeout")]) == []
    assert await column(pool, "state") == "sent"
    assert await column(pool, "reply") == "250 ok"


async def test_a_sent_mail_is_booked_once(pool: Pool) -> None:
    await sign_up(pool)
    (job,) = await take_due(pool)
    async with pool.connection() as conn:
        assert await bookings.book_sent(conn, [(Sent(job, "250 ok"), "confirm")]) == [job.id]
        assert await bookings.book_sent(conn, [(Sent(job, "250 ok"), "confirm")]) == []


async def test_a_delayed_mail_waits_for_its_time(pool: Pool) -> None:
    new = await sign_up(pool)
    (job,) = await take_due(pool)
    async with pool.connection() as conn:
        assert await bookings.book_retries(conn, [Retry(job, timedelta(seconds=30), "timeout", "")]) == [
            job.id
        ]
    assert await take_due(pool) == []
    assert await claim(pool, new.mail_id) == []  # an old message brings it no sooner
    await rewind(pool, "30 seconds")
    assert [job.attempts for job in await take_due(pool)] == [2]


@pytest.mark.parametrize("state", ["bounced", "cancelled", "dead"])
async def test_an_ended_mail_is_never_due_again(pool: Pool, state: bookings.Ending) -> None:
    new = await sign_up(pool)
    (job,) = await take_due(pool)
    async with pool.connection() as conn:
        assert await bookings.book_ended(conn, [Ended(job, state, "because")]) == [job.id]
    assert await take_due(pool) == []
    assert await claim(pool, new.mail_id) == []


async def test_a_mail_given_back_is_due_at_once_and_no_attempt_was_made(pool: Pool) -> None:
    await sign_up(pool)
    (job,) = await take_due(pool)
    async with pool.connection() as conn:
        await leases.release_jobs(conn, [job])
    assert [job.attempts for job in await take_due(pool)] == [1]


async def test_many_who_claim_at_once_share_the_mails_and_none_gets_two(pool: Pool) -> None:
    async with trio.open_nursery() as nursery:
        for n in range(60):
            nursery.start_soon(sign_up, pool, f"u{n}@example.com")
    claimed: Counter[UUID] = Counter()

    async def work() -> None:
        while True:
            async with pool.connection() as conn:
                taken = await jobs.claim_due(conn, 3)
            if not taken:
                return
            claimed.update(job.id for job in taken)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(work)
    assert len(claimed) == 60
    assert set(claimed.values()) == {1}


async def test_after_48_hours_the_attempt_is_the_last(pool: Pool) -> None:
    await sign_up(pool)
    async with pool.connection() as conn:
        await conn.execute("UPDATE mails SET created_at = now() - interval '47 hours'")
    (job,) = await take_due(pool)
    assert not job.given_up
    async with pool.connection() as conn:
        await leases.release_jobs(conn, [job])
        await conn.execute("UPDATE mails SET created_at = now() - interval '48 hours'")
    (job,) = await take_due(pool)
    assert job.given_up


async def test_states_that_cannot_be_are_not_stored(pool: Pool) -> None:
    await sign_up(pool)
    for change in (
        "state = 'sent'",
        "state = 'sending'",
        "state = 'delayed', reason = NULL",
        "due_at = NULL",
        "state = 'lost'",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            async with pool.connection() as conn:
                await conn.execute(f"UPDATE mails SET {change}")


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [(1, 5), (2, 30), (3, 120), (4, 600), (5, 1800), (6, 3600), (7, 3600), (50, 3600)],
)
def test_the_delay_grows_to_an_hour_with_a_fifth_of_jitter(attempt: int, seconds: float) -> None:
    rng = random.Random(1)
    delays = [retry_delay(attempt, rng=rng).total_seconds() for _ in range(200)]
    assert min(delays) >= seconds * 0.8
    assert max(delays) <= seconds * 1.2
    assert max(delays) - min(delays) > seconds * 0.3


async def test_of_mails_held_for_one_address_the_newest_alone_goes_on_waiting(pool: Pool) -> None:
    new = [await sign_up(pool) for _ in range(4)]
    other = await sign_up(pool, "bob@example.com")
    claimed = {job.id: job for job in await take_due(pool)}
    until = datetime.now(UTC) + timedelta(minutes=1)
    async with pool.transaction() as conn:
        await bookings.book_held(
            conn, [Held(claimed[attempt.mail_id], until) for attempt in (*new[:3], other)]
        )
    async with pool.transaction() as conn:
        await bookings.book_held(conn, [Held(claimed[new[3].mail_id], until)])
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT id FROM mails WHERE state = 'delayed'")
        waiting = {row[0] for row in await cursor.fetchall()}
    assert waiting == {new[3].mail_id, other.mail_id}


async def test_a_mail_given_back_before_its_turn_asks_for_it_again(pool: Pool) -> None:
    await sign_up(pool)
    await sign_up(pool, "bob@example.com")
    first, second = await take_due(pool)
    async with pool.connection() as conn:
        await leases.release_jobs(conn, [first, second], admitted=[first.id])
        cursor = await conn.execute("SELECT id FROM mails WHERE admitted")
        assert await cursor.fetchall() == [(first.id,)]
