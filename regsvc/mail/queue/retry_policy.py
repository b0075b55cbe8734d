"""The retry policy: decides the next step of a message without a clock, a server or the database.

Three places decide when an attempt is made. This one: after each failure, at growing intervals, for 48 hours.
`regsvc.mail.queue.breaker`: while the server is unreachable or refuses us, one message every ten seconds probes it, and
its recovery makes all waiting messages due. `regsvc.accounts.limits.mail_schedule`: not before the address's turn.
"""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

from regsvc.jobs.back_off import BackOff
from regsvc.mail.outcome import Accepted, Bounced, Delayed, Failure, Refused, Stage
from regsvc.mail.queue.bookings import Ended, Retry, Sent
from regsvc.mail.queue.breaker import HOLD
from regsvc.mail.queue.families import is_greylisting
from regsvc.mail.queue.jobs import GIVE_UP, Job
from regsvc.mail.queue.verdict import Breaker, is_about_us, refuses_us

_REPLY = 500  # characters kept of a server's reply
_BACK_OFF = BackOff((5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0), jitter=0.2, give_up=GIVE_UP)
_LONGEST_HOLD = timedelta(hours=4)
_GREYLISTED_SECONDS = (305.0, 330.0)
UNKNOWN_FOR = timedelta(minutes=10)
"""How long a mail that may have been accepted by one route is tried there alone."""


def retry_delay(attempt: int, *, rng: random.Random | None = None) -> timedelta:
    """Return how long to wait after a failed attempt.

    5 s, 30 s, 2 min, 10 min, 30 min, then 1 h each time, all ± 20 % so that what failed together does not come
    back together: attempt 1 waits 4 to 6 s, attempt 4 8 to 12 min, attempt 40 48 to 72 min.

    Args:
        attempt: number of attempts so far, from 1.
        rng: source of the jitter.
    """
    return _BACK_OFF.delay(attempt, rng=rng)


def next_step(
    job: Job,
    outcome: Accepted | Failure,
    *,
    probing: bool = False,
    alike: bool = False,
    rng: random.Random | None = None,
) -> Sent | Retry | Ended:
    """Return the next step after an attempt.

    Accepted messages are sent, bounced ones ended, and all others retried for 48 hours. But objections of the server to
    us never end or bounce a message. A refusal at the recipient stage or later may concern that recipient only; if it
    concerns us, other messages meet it, too, and this one is held.

    Args:
        job: the claimed job.
        outcome: outcome of the attempt.
        probing: the message was a probe, sent while the breaker is open.
        alike: enough other recipients were refused in the same words to blame us.
        rng: source of the jitter.
    """
    step = _decide(job, outcome, probing=probing, alike=alike, rng=rng)
    if isinstance(step, Sent):
        return step
    if isinstance(step, Ended):
        return replace(step, route=outcome.route)
    ambiguous = isinstance(outcome, Delayed) and outcome.after_dot
    after = step.after
    if outcome.route and (ambiguous or job.unknown_for is not None):
        waited = (
            job.unknown_for if job.route == outcome.route and job.unknown_for is not None else timedelta(0)
        )
        if waited < UNKNOWN_FOR:
            after = min(after, UNKNOWN_FOR - waited)
    return replace(step, after=after, route=outcome.route, ambiguous=ambiguous)


def _decide(
    job: Job, outcome: Accepted | Failure, *, probing: bool, alike: bool, rng: random.Random | None
) -> Sent | Retry | Ended:
    reply = outcome.reply[:_REPLY].replace("\0", "")
    match outcome:
        case Accepted():
            return Sent(job, reply, outcome.route, outcome.provider_id)
        case Refused(reason=reason, stage=stage) | Bounced(reason=reason, stage=stage) if alike:
            return Retry(job, retry_delay(job.attempts, rng=rng), reason, reply, stage, alike=True)
        case Bounced(reason=reason, stage=stage):
            return Ended(job, "bounced", reason, reply, stage)
        case Refused(reason=reason, stage=stage) if probing or is_about_us(outcome):
            return Retry(job, retry_delay(job.attempts, rng=rng), reason, reply, stage)
        case _:
            step = put_off(job, outcome.reason, reply, outcome.stage, rng=rng)
            if (
                isinstance(step, Retry)
                and is_greylisting(reply)
                and step.after < timedelta(seconds=_GREYLISTED_SECONDS[1])
            ):
                # Most greylists let a sender pass who comes back after 300 s, and start again before that.
                return replace(step, after=timedelta(seconds=(rng or random).uniform(*_GREYLISTED_SECONDS)))
            return step


def put_off(
    job: Job, reason: str, reply: str = "", stage: Stage | None = None, *, rng: random.Random | None = None
) -> Retry | Ended:
    """Return the next step after a retryable failure: a retry, or the end after 48 hours."""
    after = _BACK_OFF.next_delay(job.attempts, job.age, rng=rng)
    if after is None:
        return Ended(job, "dead", reason, reply, stage)
    return Retry(job, after, reason, reply, stage)


def hold(job: Job, state: Breaker) -> Retry | Ended:
    """Return the next step for a message that is not attempted because the breaker is open.

    It is due when the breaker closes. If it stays open, the message is looked at again after half an hour, then each
    time its age has doubled, at the latest after four hours. The wait for an unreachable server ends after 48 hours.
    The wait for a server that refuses us lasts until an operator has intervened.
    """
    reason, reply = state.reason or "", state.reply or ""
    after = min(max(HOLD, job.age), _LONGEST_HOLD)
    if refuses_us(state):
        return Retry(job, after, reason, reply)
    if job.given_up:
        return Ended(job, "dead", reason, reply, tried=False)
    return Retry(job, min(after, GIVE_UP - job.age), reason, reply)
