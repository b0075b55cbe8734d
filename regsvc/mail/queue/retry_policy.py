"""What is done with a mail next: decided from what is known alone, without a clock, a server or the database.

When a mail is tried is decided in three places. Here: after each failure, later and later, for 48 hours. In
`regsvc.mail.queue.breaker`: while the server cannot be reached or refuses us, one mail every ten seconds finds out
whether it is back, and when it is, all that waited for it is due. In `regsvc.accounts.limits.mail_schedule`: not before
the address's turn has come.
"""

from __future__ import annotations

import random
from datetime import timedelta

from regsvc.mail.outcome import Accepted, Bounced, Failure, Refused, Stage
from regsvc.mail.queue.bookings import Ended, Retry, Sent
from regsvc.mail.queue.breaker import HOLD
from regsvc.mail.queue.jobs import GIVE_UP, Job
from regsvc.mail.queue.verdict import Breaker, is_about_us, refuses_us

_REPLY = 500  # characters of a server's reply that are kept
_DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)
_JITTER = 0.2
_LONGEST_HOLD = timedelta(hours=4)


def retry_delay(attempt: int, *, rng: random.Random | None = None) -> timedelta:
    """Return how long to wait after a failed attempt.

    5 s, 30 s, 2 min, 10 min, 30 min, then 1 h each time, all ± 20 % so that what failed together does not come
    back together: attempt 1 waits 4 to 6 s, attempt 4 8 to 12 min, attempt 40 48 to 72 min.

    Args:
        attempt: how many attempts there were, from 1.
        rng: where the jitter comes from.
    """
    base = _DELAYS[min(max(attempt, 1), len(_DELAYS)) - 1]
    return timedelta(seconds=base * (rng or random).uniform(1 - _JITTER, 1 + _JITTER))


def next_step(
    job: Job,
    outcome: Accepted | Failure,
    *,
    probing: bool = False,
    alike: bool = False,
    rng: random.Random | None = None,
) -> Sent | Retry | Ended:
    """Return what comes of an attempt.

    Accepted is sent, bounced has ended, and everything else is tried again for 48 hours; but what the server has
    against us is no reason to ever give a mail up, nor to bounce it. A refusal at the recipient or later may be one
    recipient's own: where it is about us all the same, others meet it, too, and the mail is held.

    Args:
        job: of this attempt.
        outcome: of it.
        probing: the mail was tried while the breaker is open.
        alike: so many others were refused in the same words that it is about us.
        rng: where the jitter comes from.
    """
    reply = outcome.reply[:_REPLY].replace("\0", "")
    match outcome:
        case Accepted():
            return Sent(job, reply)
        case Refused(reason=reason, stage=stage) | Bounced(reason=reason, stage=stage) if alike:
            return Retry(job, retry_delay(job.attempts, rng=rng), reason, reply, stage, alike=True)
        case Bounced(reason=reason, stage=stage):
            return Ended(job, "bounced", reason, reply, stage)
        case Refused(reason=reason, stage=stage) if probing or is_about_us(outcome):
            return Retry(job, retry_delay(job.attempts, rng=rng), reason, reply, stage)
        case _:
            return put_off(job, outcome.reason, reply, outcome.stage, rng=rng)


def put_off(
    job: Job, reason: str, reply: str = "", stage: Stage | None = None, *, rng: random.Random | None = None
) -> Retry | Ended:
    """Return what comes of an attempt that failed and may be repeated: the next one, or the end after 48 hours."""
    if job.given_up:
        return Ended(job, "dead", reason, reply, stage)
    return Retry(job, retry_delay(job.attempts, rng=rng), reason, reply, stage)


def hold(job: Job, state: Breaker) -> Retry | Ended:
    """Return what comes of a mail that is not tried because the breaker is open.

    It is due when that closes. If nothing closes it, the mail is looked at again after half an hour, later on whenever
    its age has doubled, after four hours at the most. A server that cannot be reached for 48 hours is waited for no
    longer; one that refuses us is, until an operator has seen to it.
    """
    reason, reply = state.reason or "", state.reply or ""
    after = min(max(HOLD, job.age), _LONGEST_HOLD)
    if refuses_us(state):
        return Retry(job, after, reason, reply)
    if job.given_up:
        return Ended(job, "dead", reason, reply, tried=False)
    return Retry(job, min(after, GIVE_UP - job.age), reason, reply)
