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
from regsvc.mail.queue.jobs import GIVE_UP, Job
from regsvc.mail.queue.verdict import UNKNOWN, Breaker, Evidence, judge
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import sign_up

LOST = Delayed("connect_failed", "connect", "no route")
BUSY = Delayed("mailbox_busy", "rcpt", "450 later")
NO_LOGIN = Refused("auth_failed", "auth", "535 wrong")
NO_POLICY = Refused("policy_refused", "rcpt", "550 5.7.1 no")
OK = Accepted("250 ok")
GONE = Bounced("recipient_refused", "rcpt", "550 who")


@pytest.mark.parametrize(
    ("outcomes", "recovered", "failures"),
    [
        ([], 0, 1),
        ([OK], 1, 0),
        ([GONE], 1, 0),
        ([BUSY], 1, 0),
        ([LOST], 0, 2),
        ([LOST] * 8, 0, 9),
        ([Bounced("recipient_invalid", "mail", "the address cannot stand in a command")], 0, 1),
        ([OK, LOST, LOST], 1, 2),
        ([LOST, LOST, OK], 1, 0),
        ([NO_LOGIN], 0, 11),
        ([Delayed("temporary_failure", "mail", "452 4.3.1 no room")], 0, 2),
        ([Delayed("temporary_failure", "greeting", "451 not now")], 0, 2),
        ([Delayed("auth_unavailable", "auth", "454 4.7.0 no")], 0, 2),
    ],
    ids=range(13),
)
def test_what_is_said_before_a_recipient_counts_against_the_server_and_what_comes_later_shows_it_is_there(
    outcomes: list[Outcome], recovered: int, failures: int
) -> None:
    doubt = judge(UNKNOWN, [Evidence(LOST)])
    after = judge(doubt, [Evidence(outcome, "ann@example.com") for outcome in outcomes])
    assert (after.recovered, after.failures) == (recovered, failures)


async def note(pool: Pool, *outcomes: Outcome | Evidence) -> bool | None:
    evidence = [
        each if isinstance(each, Evidence) else Evidence(each, "ann@example.com") for each in outcomes
    ]
    async with pool.connection() as conn:
        return await breaker.note_outcomes(conn, evidence)


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


async def probe(pool: Pool, *, seconds: int) -> list[UUID]:
    """Let time pass for the breaker, and claim a probe."""
    async with pool.connection() as conn:
        await conn.execute(f"UPDATE mail_breaker SET probe_at = probe_at - interval '{seconds} seconds'")
        if not await breaker.take_probe(conn):
            return []
        return [job.id for job in await breaker.claim_probe(conn, await breaker.get_breaker(conn))]


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


async def test_a_lone_mail_is_tried_at_the_next_probe_however_long_it_would_wait(pool: Pool) -> None:
    """Its server may be back by then, and there is no other mail to find that out."""
    await note(pool, LOST)
    (mail,) = await delay(pool, "connect_failed", after=timedelta(seconds=50))
    assert await probe(pool, seconds=10) == [mail]


async def test_what_is_tried_before_the_next_probe_is_no_probe(pool: Pool) -> None:
    await note(pool, LOST)
    await delay(pool, "connect_failed", after=timedelta(seconds=5))
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


async def test_when_it_closes_what_waited_for_the_server_is_due_and_nothing_else(
    pool: Pool,
) -> None:
    await delay(pool, *REASONS)
    await note(pool, NO_LOGIN)
    assert await note(pool, OK) is False
    assert await released(pool) == ["auth_failed", "connect_failed", "timeout"]


async def test_a_success_after_failed_connections_makes_due_what_waited_for_one(pool: Pool) -> None:
    """What the server has against one mail alone is not over because it took another."""
    await delay(pool, *REASONS)
    await note(pool, OK)
    assert await released(pool) == []
    await note(pool, LOST)
    assert await note(pool, OK) is None
    assert await released(pool) == ["connect_failed", "timeout"]


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


async def released(pool: Pool) -> list[str]:
    """Claim what may be sent, and return why it was delayed."""
    async with pool.transaction() as conn:
        cursor = await conn.execute("SELECT id, reason FROM mails")
        reasons = dict(await cursor.fetchall())
        state = await breaker.get_breaker(conn)
        if state.recovered_for is not None:
            state = replace(state, recovered_for=breaker.SPREAD.total_seconds())
        claimed = await breaker.claim_next(conn, state, limit=100)
    return sorted(reasons[job.id] for job in claimed)


async def test_a_held_mail_counts_no_attempt(pool: Pool) -> None:
    new = await sign_up(pool)
    async with pool.connection() as conn:
        (job,) = await jobs.claim_mails(conn, [new.mail_id])
        assert await bookings.hold_jobs(conn, [Retry(job, breaker.HOLD, "auth_failed")]) == [new.mail_id]
        cursor = await conn.execute("SELECT state, attempts FROM mails")
        assert await cursor.fetchone() == ("delayed", 0)
        (job,) = await jobs.claim_waiting(conn, None, beyond=breaker.SPREAD)
        assert (job.id, job.attempts) == (new.mail_id, 1)


def test_no_outcomes_change_nothing() -> None:
    assert judge(UNKNOWN, []) is UNKNOWN


async def test_what_is_being_held_while_it_closes_is_made_due_too(pool: Pool) -> None:
    await note(pool, NO_LOGIN)
    new = await sign_up(pool)
    async with pool.transaction() as conn:
        state = await breaker.get_breaker(conn)
        (job,) = await jobs.claim_mails(conn, [new.mail_id])
        with trio.fail_after(5):
            assert await note(pool, OK) is False  # nothing waits for the transaction that holds the mail
        assert await bookings.hold_jobs(
            conn, [Retry(job, breaker.HOLD, "auth_failed")], since=state.recovered
        )
    assert await released(pool) == ["auth_failed"]


@pytest.mark.parametrize("stage", ["rcpt", "data", "dot"])
def test_one_recipients_own_policy_ends_their_mail_after_48_hours(stage: Stage) -> None:
    refused = Refused("policy_refused", stage, "550 5.7.1 not from you")
    job = Job(uuid4(), None, uuid4(), 50, GIVE_UP)
    assert retry_policy.next_step(job, refused) == Ended(job, "dead", refused.reason, refused.reply, stage)
    assert isinstance(retry_policy.next_step(replace(job, age=timedelta(0)), refused), Retry)
    # While sending is paused it is the server's trouble with us, and burns no mail.
    assert isinstance(retry_policy.next_step(job, refused, probing=True), Retry)


async def test_a_mail_given_up_while_it_was_held_counts_no_attempt(pool: Pool) -> None:
    new = await sign_up(pool)
    async with pool.connection() as conn:
        (job,) = await jobs.claim_mails(conn, [new.mail_id])
        away = Breaker(open=True, failures=10, reason="connect_failed", reply="", opened_at=None)
        given_up = retry_policy.hold(replace(job, age=GIVE_UP), away)
        assert isinstance(given_up, Ended)
        assert await bookings.book_ended(conn, [given_up]) == [new.mail_id]
        cursor = await conn.execute("SELECT state, attempts, (SELECT count(*) FROM mail_attempts) FROM mails")
        assert await cursor.fetchone() == ("dead", 0, 0)
