"""When a mail is tried again after a receiver asked for patience."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from regsvc.mail.outcome import Delayed
from regsvc.mail.queue.bookings import Retry
from regsvc.mail.queue.families import is_throttling
from regsvc.mail.queue.jobs import Job
from regsvc.mail.queue.retry_policy import next_step

JOB = Job(UUID(int=1), None, UUID(int=2), 1, timedelta(0))


@pytest.mark.parametrize("reply", ["450 4.2.0 Greylisted, see postgrey", "451 4.7.1 Please try again later"])
def test_a_greylist_is_met_again_when_it_lets_us_pass(reply: str) -> None:
    """Accepted within 340 s where a greylist asks for 300."""
    for _ in range(200):
        step = next_step(JOB, Delayed("mailbox_busy", "rcpt", reply))
        assert isinstance(step, Retry)
        assert 305 <= step.after.total_seconds() <= 330


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
