"""What is done with a mail next: decided from what is known alone, without a clock, a server or the database.

When a mail is tried is decided in three places. Here: after each failure, later and later, for 48 hours. In
`regsvc.mail.breaker`: while the server cannot be reached or refuses us, one mail every ten seconds finds out whether it
is back, and when it is, all that waited for it is due within a minute. In `regsvc.accounts.schedule`: not before the
address's turn has come.
"""

from __future__ import annotations

import random

from regsvc.mail.breaker import HOLD, Breaker
from regsvc.mail.jobs import Ended, Job, Retry, Sent, retry_delay
from regsvc.mail.outcome import CONNECTION_REASONS, Accepted, Bounced, Failure, Refused, Stage

_REPLY = 500  # characters of a server's reply that are kept


def next_step(
    job: Job, outcome: Accepted | Failure, *, rng: random.Random | None = None
) -> Sent | Retry | Ended:
    """Return what comes of an attempt.

    Accepted is sent, bounced has ended, and everything else is tried again; but what the server has against us is no
    reason to ever give a mail up.

    Args:
        job: of this attempt.
        outcome: of it.
        rng: where the jitter comes from.
    """
    reply = outcome.reply[:_REPLY].replace("\0", "")
    match outcome:
        case Accepted():
            return Sent(job, reply)
        case Bounced(reason=reason, stage=stage):
            return Ended(job, "bounced", reason, reply, stage)
        case Refused(reason=reason, stage=stage):
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

    It is looked at again when that closes, or half an hour later. A server that cannot be reached for 48 hours is
    waited for no longer; one that refuses us is, until somebody has seen to it.
    """
    reason, reply = state.reason or "", state.reply or ""
    if job.given_up and reason in CONNECTION_REASONS:
        return Ended(job, "dead", reason, reply)
    return Retry(job, HOLD, reason, reply)
