"""A mail that waits for its address's turn is shown as what becomes of the mail that has it, and never as more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import trio

from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.registrations import mail_status
from regsvc.mail.outcome import Accepted, Bounced, Delayed
from regsvc.mail.queue import bookings, jobs, retry_policy
from regsvc.mail.queue.bookings import Ended, Held, Retry, Sent
from regsvc.mail.queue.jobs import GIVE_UP, Job
from regsvc.mail.queue.turns import Leader, follow
from tests.accounts import mails
from tests.accounts.attempts import SECRETS, sign_up
from tests.mail.test_courier import run_sending, wait_state
from tests.smtp_servers import ScriptedServer

if TYPE_CHECKING:
    from uuid import UUID

    from regsvc.accounts.registrations.registration import NewRegistration, Registration
    from regsvc.postgres.pool import Pool

ADDRESS = "ann@example.com"
BUSY = Delayed("mailbox_busy", "rcpt", "450 4.2.1 busy")
UNKNOWN_USER = Bounced("recipient_refused", "rcpt", "550 5.1.1 user unknown")


@dataclass
class Elsewhere:
    """A mail that has the turn of its address and is in hand in another process."""

    pool: Pool
    new: NewRegistration
    job: Job

    async def end(self, outcome: Accepted | Bounced | Delayed | None) -> None:
        """Book what became of it; None: it is not wanted any more."""
        step = retry_policy.next_step(self.job, outcome) if outcome else Ended(self.job, "cancelled", "over")
        async with self.pool.transaction() as conn:
            match step:
                case Sent():
                    await mail_status.show_sent(conn, await bookings.book_sent(conn, [(step, "confirm")]))
                case Retry():
                    await mail_status.show_delayed(conn, await bookings.book_retries(conn, [step]))
                case Ended():
                    await mail_status.show_bounced(conn, await bookings.book_ended(conn, [step]))

    async def shown(self) -> Registration:
        """Return what its attempt shows."""
        return await mails.get_registration(self.pool, self.new.id)


async def take_elsewhere(pool: Pool) -> Elsewhere:
    new = await sign_up(pool, ADDRESS)
    key = mail_schedule.address_key(SECRETS, new.email_key)
    async with pool.transaction() as conn:
        (job,) = await jobs.claim_mails(conn, [new.mail_id])
        assert await mail_status.begin_sending(conn, [new.mail_id])
        assert await mail_schedule.try_turns(conn, {key: new.mail_id}) == {key: True}
    return Elsewhere(pool, new, job)


async def wait_looks(pool: Pool, mail_id: UUID, looks: int) -> None:
    """Wait until a mail has been given back so often."""
    seen: set[datetime] = set()
    with trio.fail_after(20):
        while len(seen) < looks:
            mail = await mails.get(pool, mail_id)
            if mail.state == "queued" and mail.attempts == 0:
                seen.add(mail.changed_at)
            await trio.sleep(0.02)


async def wait_shown(pool: Pool, registration_id: UUID, state: str) -> Registration:
    with trio.fail_after(20):
        while (shown := await mails.get_registration(pool, registration_id)).state != state:  # noqa: ASYNC110
            await trio.sleep(0.02)
    return shown


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(Accepted("250 ok"), "sent"), (BUSY, "delayed")],
    ids=["accepted", "delayed"],
)
async def test_it_is_shown_as_what_becomes_of_a_mail_in_hand_elsewhere(
    pool: Pool, database: str, outcome: Accepted | Delayed, state: str
) -> None:
    leader = await take_elsewhere(pool)
    async with ScriptedServer().running() as smtp, run_sending(pool, database, smtp, spaced=True):
        new = await sign_up(pool, ADDRESS)
        await wait_looks(pool, new.mail_id, 3)
        waiting = await mails.get_registration(pool, new.id)
        # However often it is looked at, it is in its first try, as the other is.
        assert (waiting.state, waiting.seq, waiting.attempts) == ("sending", (await leader.shown()).seq, 1)
        await leader.end(outcome)
        shown = await wait_shown(pool, new.id, state)
    theirs = await leader.shown()
    assert (shown.state, shown.reason, shown.attempts) == (state, theirs.reason, 1)
    assert shown.seq == theirs.seq
    if state == "delayed":
        assert shown.next_try_at is not None
        assert shown.next_try_at != theirs.next_try_at
        assert timedelta(seconds=3.9) < shown.next_try_at - shown.changed_at < timedelta(seconds=6.1)
    assert smtp.mails == []


async def test_it_has_the_turn_of_a_mail_that_is_cancelled(pool: Pool, database: str) -> None:
    leader = await take_elsewhere(pool)
    async with ScriptedServer().running() as smtp, run_sending(pool, database, smtp, spaced=True):
        new = await sign_up(pool, ADDRESS)
        await wait_looks(pool, new.mail_id, 1)
        await leader.end(None)
        sent = await wait_state(pool, new.mail_id, "sent")
        shown = await mails.get_registration(pool, new.id)
        assert (sent.silent, shown.state, shown.attempts) == (False, "sent", 1)
        assert len(smtp.mails) == 1
        # The turn is used up now: the next one is shown alike, and waits.
        third = await sign_up(pool, ADDRESS)
        assert (await wait_shown(pool, third.id, "sent")).attempts == 1
    assert len(smtp.mails) == 1


async def test_it_is_no_attempt_to_an_operator(pool: Pool, database: str) -> None:
    leader = await take_elsewhere(pool)
    await leader.end(BUSY)
    async with ScriptedServer().running() as smtp, run_sending(pool, database, smtp, spaced=True):
        new = await sign_up(pool, ADDRESS)
        await wait_state(pool, new.mail_id, "delayed")
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT FROM mail_attempts WHERE mail_id = %s", (new.mail_id,))
        assert await cursor.fetchall() == []


async def test_a_bounced_mail_does_not_count_in_its_address_schedule(pool: Pool) -> None:
    key = mail_schedule.address_key(SECRETS, ADDRESS)
    for _ in range(7):  # more than the schedule has in a day
        leader = await take_elsewhere(pool)
        await leader.end(UNKNOWN_USER)
    await (await take_elsewhere(pool)).end(Accepted("250 ok"))
    async with pool.transaction() as conn:
        assert await mail_schedule.try_turns(conn, {key: uuid4()}) == {key: False}
        await conn.execute("UPDATE mail_schedules SET last_at = last_at - interval '60 seconds'")
        assert await mail_schedule.try_turns(conn, {key: uuid4()}) == {key: True}


async def test_after_this_was_not_me_a_mail_that_ends_untried_gives_nothing_back(pool: Pool) -> None:
    """It may have arrived although the mail server's answer did not."""
    key = mail_schedule.address_key(SECRETS, ADDRESS)
    leader = await take_elsewhere(pool)
    async with pool.transaction() as conn:
        await mail_schedule.quieten(conn, key)
    await leader.end(None)
    async with pool.transaction() as conn:
        assert await mail_schedule.try_turns(conn, {key: uuid4()}) == {key: False}


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_its_next_look_is_when_its_own_next_try_would_be(attempts: int) -> None:
    job = Job(uuid4(), None, uuid4(), attempts, timedelta(minutes=1))
    held = Held(job, datetime.now(UTC), uuid4())
    step = follow(held, Leader(uuid4(), "delayed", "mailbox_busy", "450 busy"))
    assert isinstance(step, Retry)
    base = {1: 5, 2: 30, 4: 600}[attempts]
    assert base * 0.8 <= step.after.total_seconds() <= base * 1.2
    assert step.reason == "mailbox_busy"


def test_it_is_waited_for_no_longer_than_one_that_is_tried() -> None:
    held = Held(Job(uuid4(), None, uuid4(), 50, GIVE_UP), datetime.now(UTC), uuid4())
    step = follow(held, Leader(uuid4(), "delayed", "mailbox_busy", "450 busy"))
    assert isinstance(step, Ended)
    assert step.state == "dead"
