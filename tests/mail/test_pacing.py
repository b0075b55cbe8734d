"""When a mail is tried again after a receiver asked for patience."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from regsvc.mail.outcome import Accepted, Delayed, Failure
from regsvc.mail.queue.bookings import Retry
from regsvc.mail.queue.families import is_throttling
from regsvc.mail.queue.jobs import Job
from regsvc.mail.queue.retry_policy import next_step
from tests.mail.simulation import START, PostOffice, simulated_clock

JOB = Job(UUID(int=1), None, UUID(int=2), 1, timedelta(0))


@pytest.mark.parametrize("reply", ["450 4.2.0 Greylisted, see postgrey", "451 4.7.1 Please try again later"])
def test_a_greylist_is_met_again_when_it_lets_us_pass(reply: str) -> None:
    """Accepted within 340 s where a greylist asks for 300."""
    for _ in range(200):
        step = next_step(JOB, Delayed("mailbox_busy", "rcpt", reply))
        assert isinstance(step, Retry)
        assert 305 <= step.after.total_seconds() <= 330


@pytest.mark.parametrize("seed", range(20))
async def test_a_mail_that_is_greylisted_for_300_s_is_accepted_within_340(
    autojump_clock: MockClock, seed: int
) -> None:
    """At its second attempt: a greylist that meets an earlier one may begin anew."""
    office = PostOffice(simulated_clock, random.Random(seed))
    met: list[datetime] = []

    def serve(now: datetime) -> Accepted | Failure:
        met.append(now)
        if now - met[0] >= timedelta(seconds=300):
            return Accepted("250 ok")
        return Delayed("mailbox_busy", "rcpt", "450 4.2.0 Greylisted, please try again in 300 seconds")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(office.run_mailer, serve)
        mail = office.add()
        await trio.sleep(3600)
        nursery.cancel_scope.cancel()
    assert mail.sent_at - START <= timedelta(seconds=340)
    assert len(mail.tries) == 2


@pytest.mark.parametrize(
    ("reply", "throttles"),
    [
        ("421 4.7.28 Our system has detected an unusual rate of mail", True),
        ("451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)", True),
        ("421 4.7.0 [TSS04] Messages temporarily deferred due to user complaints", True),
        ("450 4.2.0 Greylisted", False),
        ("452 4.2.2 mailbox full", False),
    ],
    ids=["gmail", "outlook", "yahoo", "greylist", "full"],
)
def test_which_replies_throttle(reply: str, throttles: bool) -> None:  # noqa: FBT001 - a case
    assert is_throttling(Delayed("temporary_failure", "rcpt", reply)) is throttles
