"""Mails to families of receivers that throttle: all wait but one a minute."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import structlog

from regsvc.accounts.mails.turns import AnyLetter
from regsvc.accounts.registrations import mail_status
from regsvc.mail.queue import bookings, families, retry_policy
from regsvc.mail.queue.bookings import Ended, Retry
from regsvc.mail.queue.jobs import Job
from regsvc.metrics import MAILS
from regsvc.postgres.connection import Connection

log = structlog.get_logger()

_LEAST = timedelta(seconds=60)
REASON = "temporary_failure"


@dataclass(frozen=True)
class Throttled:
    """What became of claimed mails to families that are held.

    Args:
        testing: families by the ids of those that test them, one for each.
        held: ids of those that wait.
    """

    testing: Mapping[UUID, str] = field(default_factory=dict)
    held: frozenset[UUID] = frozenset()


async def hold_throttled(
    conn: Connection,
    claimed: Sequence[Job],
    letters: dict[UUID, AnyLetter],
    *,
    unsent: Collection[UUID] = (),
    find_key: Callable[[str], str] = families.family_key,
) -> Throttled:
    """Delay mails to held families without counting an attempt, and remove their letters.

    Suppressed ones wait like the others, so that nothing tells them apart, but they test no family.

    Args:
        conn: connection of the claim, in its transaction.
        claimed: the jobs.
        letters: by mail id.
        unsent: ids of mails that will not be sent in any case.
        find_key: returns the key of a domain's family.
    """
    left = await families.load_held(conn)
    if not left:
        return Throttled()
    concerned = {
        job: family
        for job in claimed
        if job.id in letters
        and (family := find_key(letters[job.id].email.rpartition("@")[2].lower())) in left
    }
    if not concerned:
        return Throttled()
    fit = {job: family for job, family in concerned.items() if job.id not in unsent}
    tests = await families.take_tests(conn, set(fit.values())) if fit else set()
    testing = {family: job.id for job, family in reversed(fit.items()) if family in tests}
    waiting = [job for job in concerned if job.id not in testing.values()]
    steps = [_put_off(job, left[concerned[job]]) for job in waiting]
    retries = [step for step in steps if isinstance(step, Retry)]
    over = [step for step in steps if isinstance(step, Ended)]
    if retries:
        await mail_status.show_delayed(conn, await bookings.hold_jobs(conn, retries))
        MAILS.labels("held").inc(len(retries))
        log.info("mails held while their receivers throttle", mails=len(retries), families=sorted(left))
    if over:
        await mail_status.show_bounced(conn, await bookings.book_ended(conn, over))
        MAILS.labels("dead").inc(len(over))
    for job in waiting:
        del letters[job.id]
    return Throttled(
        {mail_id: family for family, mail_id in testing.items()}, frozenset(job.id for job in waiting)
    )


async def give_tests_back(conn: Connection, tests: Throttled, *, unsent: Collection[UUID]) -> None:
    """Let another mail test the families whose tests are not sent now, in the transaction that took the tests."""
    if unsent:
        await families.give_tests_back(conn, {tests.testing[mail_id] for mail_id in unsent})


def _put_off(job: Job, seconds: float) -> Retry | Ended:
    """Return the next step of a mail that waits: looked at again each minute or two, given up after 48 hours."""
    if job.given_up:
        return Ended(job, "dead", REASON, "the receiver throttles", tried=False)
    after = min(max(retry_policy.retry_delay(3), _LEAST), max(timedelta(seconds=seconds), _LEAST))
    return Retry(job, after, REASON, "the receiver throttles")
