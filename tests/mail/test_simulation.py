"""The simulation of `simulation.py` does as PostgreSQL does."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from regsvc.mail.outcome import Accepted, Bounced, Delayed, Failure, Refused
from regsvc.mail.queue import bookings, breaker, jobs, retry_policy
from regsvc.mail.queue.bookings import Ended, Retry, Sent
from regsvc.mail.queue.jobs import Job
from regsvc.mail.queue.verdict import Evidence, is_alike, judge
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import sign_up
from tests.mail.simulation import PostOffice, SimulatedMail

OUTCOMES: dict[Accepted | Failure, float] = {
    Accepted("250 ok"): 1,
    Delayed("connect_failed", "connect", "no route"): 9,
    Delayed("mailbox_busy", "rcpt", "450 later"): 3,
    Refused("auth_failed", "auth", "535 wrong"): 1,
    Refused("policy_refused", "rcpt", "550 5.7.1 no"): 1,
    Bounced("recipient_refused", "rcpt", "550 who"): 0.2,
}


@pytest.mark.parametrize("seed", range(6))
async def test_the_simulation_does_as_postgresql_does(pool: Pool, seed: int) -> None:
    """Hours of random mails, outcomes, probes and pauses leave the same rows; `now()` stands still in a transaction."""
    rng = random.Random(seed)
    passed = timedelta(0)
    pool_of_mails = [await sign_up(pool, f"u{n}@example.com") for n in range(12)]
    async with pool.transaction(limit=60) as conn:
        began = await _now(conn)
        office = PostOffice(lambda: began + passed, rng)
        await conn.execute("DELETE FROM mails")
        for _ in range(150):
            pause = timedelta(seconds=10 ** rng.uniform(-1, 3.5))
            passed += pause
            await _let_pass(conn, pause)
            action = rng.choice(["add", "send", "send", "probe", "probe"])
            if action == "add" and pool_of_mails:
                new = pool_of_mails.pop()
                await jobs.add_job(conn, new.mail_id, new.id)
                office.add(new.mail_id)
            elif action == "send":
                state = await breaker.get_breaker(conn)
                taken = await breaker.claim_next(conn, replace(state, recovered_for=60.0), limit=64)
                await _deal(conn, office, taken, office.find_due(), rng)
            elif action == "probe":
                turn = await breaker.take_probe(conn)
                taken = await breaker.claim_probe(conn, await breaker.get_breaker(conn)) if turn else []
                candidates = office.find_probes()
                assert bool(taken) == bool(candidates)
                mine = [mail for mail in candidates if mail.id in {job.id for job in taken}]
                await _deal(conn, office, taken, mine, rng, probing=True)
            await _compare(conn, office, passed)
    assert any(mail.state == "sent" for mail in office.mails.values())


async def _deal(
    conn: Connection,
    office: PostOffice,
    taken: list[Job],
    mine: list[SimulatedMail],
    rng: random.Random,
    *,
    probing: bool = False,
) -> None:
    """Send what both have claimed, with one outcome for both, or hold it."""
    simulated = {job.id: job for job in office.claim(mine)}
    assert {job.id: (job.attempts, job.given_up) for job in taken} == {
        job.id: (job.attempts, job.given_up) for job in simulated.values()
    }
    state = await breaker.get_breaker(conn)
    assert (state.open, state.failures, state.reason, dict(state.alike)) == (
        office.state.open,
        office.state.failures,
        office.state.reason,
        {words: list(people) for words, people in office.state.alike.items()},
    )
    if state.open and not probing:
        for job in taken:
            held = retry_policy.hold(job, state)
            office.book(held, tried=False)
            await _book(conn, held, tried=False)
        return
    evidence = [
        Evidence(
            rng.choices([*OUTCOMES], [*OUTCOMES.values()])[0], f"{job.id}@{job.id}.example", job.attempts
        )
        for job in taken
    ]
    judged = judge(state, evidence)
    for job, each in zip(taken, evidence, strict=True):
        assert isinstance(each.outcome, Accepted | Failure)
        step = retry_policy.next_step(job, each.outcome, alike=is_alike(judged, each), rng=rng)
        office.book(step)
        await _book(conn, step)
    office.note(evidence)
    await breaker.note_outcomes(conn, evidence)


async def _book(conn: Connection, step: Sent | Retry | Ended, *, tried: bool = True) -> None:
    match step:
        case Sent():
            await bookings.book_sent(conn, [(step, "confirm")])
        case Retry():
            await (bookings.book_retries if tried else bookings.hold_jobs)(conn, [step])
        case Ended():
            await bookings.book_ended(conn, [step])


async def _now(conn: Connection) -> datetime:
    cursor = await conn.execute("SELECT now()")
    (now,) = await cursor.fetchone() or (None,)
    assert isinstance(now, datetime)
    return now


async def _let_pass(conn: Connection, pause: timedelta) -> None:
    """Move everything that has happened, or will, that much into the past."""
    await conn.execute(
        "UPDATE mails SET created_at = created_at - %(by)s, changed_at = changed_at - %(by)s, due_at = due_at - %(by)s",
        {"by": pause},
    )
    await conn.execute("UPDATE mail_attempts SET tried_at = tried_at - %(by)s", {"by": pause})
    await conn.execute("UPDATE mail_breaker SET probe_at = probe_at - %(by)s", {"by": pause})


async def _compare(conn: Connection, office: PostOffice, passed: timedelta) -> None:
    cursor = await conn.execute(
        "SELECT id, state, attempts, waits, reason, due_at + %(passed)s FROM mails", {"passed": passed}
    )
    rows = {row[0]: row[1:] for row in await cursor.fetchall()}
    assert rows.keys() == office.mails.keys()
    for mail_id, (state, attempts, waits, reason, due_at) in rows.items():
        mail = office.mails[mail_id]
        assert (state, attempts, waits) == (mail.state, mail.attempts, mail.waits)
        if due_at is not None:
            assert abs(due_at - mail.due_at) < timedelta(milliseconds=1)
            assert state in {"queued", "sending"} or reason == mail.reason
