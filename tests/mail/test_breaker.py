"""The circuit breaker in front of the mail server."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import trio

from regsvc.mail.outcome import Accepted, Bounced, Delayed, Outcome, Refused, Stage
from regsvc.mail.queue import bookings, breaker, jobs, retry_policy
from regsvc.mail.queue.bookings import Ended, Retry
from regsvc.mail.queue.breaker import Verdict, weigh
from regsvc.mail.queue.jobs import Job
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import sign_up

LOST = Delayed("connect_failed", "connect", "no route")
BUSY = Delayed("mailbox_busy", "rcpt", "450 later")
NO_LOGIN = Refused("auth_failed", "auth", "535 wrong")
NO_POLICY = Refused("policy_refused", "rcpt", "550 5.7.1 no")
OK = Accepted("250 ok")
GONE = Bounced("recipient_refused", "rcpt", "550 who")


@pytest.mark.parametrize(
    ("outcomes", "works", "weight"),
    [
        ([], False, 0),
        ([OK], True, 0),
        ([GONE], True, 0),
        ([BUSY], False, 0),
        ([LOST], False, 1),
        ([LOST] * 9, False, 9),
        ([OK, LOST, LOST], True, 2),
        ([LOST, LOST, OK], True, 0),
        ([NO_LOGIN], False, 10),
        ([NO_POLICY], False, 5),
        ([NO_POLICY, BUSY, NO_POLICY], False, 10),
    ],
)
def test_outcomes_are_weighed_by_what_they_say_of_the_server(
    outcomes: list[Outcome],
    works: bool,  # noqa: FBT001 - a table
    weight: int,
) -> None:
    verdict = weigh(outcomes)
    assert (verdict.works, verdict.weight) == (works, weight)


async def note(pool: Pool, *outcomes: Outcome) -> bool | None:
    async with pool.transaction() as conn:
        return await breaker.note_verdict(conn, weigh(outcomes))


async def is_open(pool: Pool) -> bool:
    async with pool.connection() as conn:
        return (await breaker.get_breaker(conn)).open


async def test_ten_failed_connections_in_a_row_open_it_also_one_by_one(pool: Pool) -> None:
    for _ in range(9):
        assert await note(pool, LOST) is None
    assert not await is_open(pool)
    assert await note(pool, LOST) is True
    assert await note(pool, LOST) is None
    assert await is_open(pool)


async def test_a_success_between_failures_starts_the_count_anew(pool: Pool) -> None:
    await note(pool, *[LOST] * 9)
    assert await note(pool, OK) is None
    await note(pool, *[LOST] * 9)
    assert not await is_open(pool)


async def test_a_refused_log_in_opens_it_at_once_and_says_why(pool: Pool) -> None:
    assert await note(pool, NO_LOGIN) is True
    async with pool.connection() as conn:
        state = await breaker.get_breaker(conn)
    assert (state.open, state.reason, state.reply) == (True, "auth_failed", "535 wrong")
    assert state.opened_at is not None


async def test_one_recipients_policy_does_not_open_it_two_do(pool: Pool) -> None:
    assert await note(pool, NO_POLICY) is None
    assert await note(pool, NO_POLICY) is True


async def probe(pool: Pool, *, seconds: int) -> list[UUID]:
    """Let time pass for the breaker, and claim a probe."""
    async with pool.transaction() as conn:
        await conn.execute(f"UPDATE mail_breaker SET probe_at = probe_at - interval '{seconds} seconds'")
        return [job.id for job in await breaker.claim_probe(conn)]


async def delay(pool: Pool, *reasons: str, after: timedelta = timedelta(hours=1)) -> list[UUID]:
    """Have a mail delayed for each reason, one after the other, and return their ids."""
    mails = []
    for n, reason in enumerate(reasons):
        new = await sign_up(pool, f"u{n}@example.com")
        async with pool.connection() as conn:
            (job,) = await jobs.claim_mails(conn, [new.mail_id])
            await bookings.book_retries(conn, [Retry(job, after, reason)])
        mails.append(new.mail_id)
    return mails


async def test_while_it_is_open_one_mail_is_let_through_every_ten_seconds(pool: Pool) -> None:
    await note(pool, NO_LOGIN)
    first, second = await delay(pool, "auth_failed", "auth_failed")
    assert await probe(pool, seconds=9) == []
    assert await probe(pool, seconds=1) == [first]
    assert await probe(pool, seconds=0) == []
    assert await probe(pool, seconds=10) == [second]


async def test_after_one_failed_connection_a_mail_that_has_long_to_wait_is_tried_every_ten_seconds(
    pool: Pool,
) -> None:
    """Where there is one mail, nothing else would find out within an hour that the server is back."""
    await note(pool, LOST)
    (mail,) = await delay(pool, "connect_failed")
    assert not await is_open(pool)
    assert await probe(pool, seconds=9) == []
    assert await probe(pool, seconds=1) == [mail]


async def test_what_is_tried_soon_anyway_is_no_probe(pool: Pool) -> None:
    await note(pool, LOST)
    await delay(pool, "connect_failed", after=timedelta(seconds=30))
    assert await probe(pool, seconds=10) == []


@pytest.mark.parametrize("reason", ["mailbox_busy", "held_back", "internal_error", "policy_refused"])
async def test_what_waits_for_something_else_than_the_connection_is_no_probe(pool: Pool, reason: str) -> None:
    await note(pool, LOST)
    await delay(pool, reason)
    assert await probe(pool, seconds=10) == []


async def test_no_probe_is_needed_while_the_server_works(pool: Pool) -> None:
    await delay(pool, "connect_failed")
    await note(pool, LOST)
    await note(pool, OK)
    assert await probe(pool, seconds=10) == []


async def test_when_it_closes_what_waited_for_the_server_is_due_within_a_minute_and_nothing_else(
    pool: Pool,
) -> None:
    await delay(pool, *REASONS)
    await note(pool, NO_LOGIN)
    assert await note(pool, OK) is False
    assert await due_within_a_minute(pool) == ["auth_failed", "connect_failed", "timeout"]


async def test_a_success_after_failed_connections_makes_due_what_waited_for_one(pool: Pool) -> None:
    """What the server has against one mail alone is not over because it took another."""
    await delay(pool, *REASONS)
    await note(pool, OK)
    assert await due_within_a_minute(pool) == []
    await note(pool, LOST)
    assert await note(pool, OK) is None
    assert await due_within_a_minute(pool) == ["connect_failed", "timeout"]


REASONS = [
    "connect_failed",
    "auth_failed",
    "timeout",
    "mailbox_full",
    "mailbox_busy",
    "temporary_failure",
    "held_back",
    "internal_error",
]


async def due_within_a_minute(pool: Pool) -> list[str]:
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT reason FROM mails WHERE due_at <= now() + interval '60 seconds' ORDER BY reason"
        )
        return [row[0] for row in await cursor.fetchall()]


async def test_a_held_mail_counts_no_attempt(pool: Pool) -> None:
    new = await sign_up(pool)
    async with pool.connection() as conn:
        (job,) = await jobs.claim_mails(conn, [new.mail_id])
        assert await bookings.hold_jobs(conn, [Retry(job, breaker.HOLD, "auth_failed")]) == [new.mail_id]
        cursor = await conn.execute("SELECT state, attempts FROM mails")
        assert await cursor.fetchone() == ("delayed", 0)
        (job,) = await jobs.claim_waiting(conn, ["auth_failed"], beyond=breaker.SPREAD)
        assert (job.id, job.attempts) == (new.mail_id, 1)


def test_nothing_to_weigh_says_nothing() -> None:
    assert weigh([]) == Verdict()


async def test_what_is_being_held_while_it_closes_is_made_due_too(pool: Pool) -> None:
    await note(pool, NO_LOGIN)
    new = await sign_up(pool)
    closed: list[bool | None] = []

    async def close() -> None:
        closed.append(await note(pool, OK))

    async with trio.open_nursery() as nursery, pool.transaction() as conn:
        (job,) = await jobs.claim_mails(conn, [new.mail_id])
        assert (await breaker.keep_open(conn)).open
        nursery.start_soon(close)
        await wait_blocked(pool)
        assert closed == []
        await bookings.hold_jobs(conn, [Retry(job, breaker.HOLD, "auth_failed")])
    assert closed == [False]
    async with pool.connection() as conn:
        assert (await jobs.seconds_until_due(conn) or 0) <= breaker.SPREAD.total_seconds()


async def wait_blocked(pool: Pool) -> None:
    """Wait until somebody waits for a lock."""
    with trio.fail_after(10):
        while True:
            async with pool.connection() as conn:
                cursor = await conn.execute(
                    "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            if cursor.rowcount:
                return
            await trio.sleep(0.01)


def test_one_recipients_own_policy_does_not_open_it_however_often_their_mail_is_tried() -> None:
    assert [breaker.is_repetition(NO_POLICY, attempt) for attempt in (1, 2, 3)] == [False, True, True]
    assert not breaker.is_repetition(NO_LOGIN, 5)


@pytest.mark.parametrize("stage", ["rcpt", "data", "dot"])
def test_one_recipients_own_policy_ends_their_mail_after_48_hours(stage: Stage) -> None:
    refused = Refused("policy_refused", stage, "550 5.7.1 not from you")
    job = Job(uuid4(), None, uuid4(), 50, given_up=True)
    assert retry_policy.next_step(job, refused) == Ended(job, "dead", refused.reason, refused.reply, stage)
    assert isinstance(retry_policy.next_step(replace(job, given_up=False), refused), Retry)
    # While sending is paused it is the server's trouble with us, and burns no mail.
    assert isinstance(retry_policy.next_step(job, refused, probing=True), Retry)


async def test_a_mail_given_up_while_it_was_held_counts_no_attempt(pool: Pool) -> None:
    new = await sign_up(pool)
    async with pool.connection() as conn:
        (job,) = await jobs.claim_mails(conn, [new.mail_id])
        away = breaker.Breaker(open=True, failures=10, reason="connect_failed", reply="", opened_at=None)
        given_up = retry_policy.hold(replace(job, given_up=True), away)
        assert isinstance(given_up, Ended)
        assert await bookings.book_ended(conn, [given_up]) == [new.mail_id]
        cursor = await conn.execute("SELECT state, attempts, (SELECT count(*) FROM mail_attempts) FROM mails")
        assert await cursor.fetchone() == ("dead", 0, 0)
