"""Booking of outcomes, many in one transaction, with their log lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import structlog
import trio

from regsvc.accounts.deliveries.reports import show_reported
from regsvc.accounts.deliveries.unsent import schedule_facts
from regsvc.accounts.registrations import mail_status
from regsvc.consumer.sending.in_hand import InHand
from regsvc.errors import DatabaseUnavailableError
from regsvc.logs import mask_email
from regsvc.mail.outcome import Accepted, Bounced, Refused
from regsvc.mail.queue import bookings, breaker, families, leases, retry_policy, turns
from regsvc.mail.queue.bookings import Ended, Held, Retry, Sent
from regsvc.mail.queue.jobs import Job
from regsvc.mail.queue.remedies import find_remedy
from regsvc.mail.queue.verdict import Breaker, Evidence, is_alike, judge
from regsvc.metrics import ACCEPTED_AFTER, MAILS
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets

log = structlog.get_logger()

Booking = Sent | Retry | Held | Ended

_LIMIT = 10.0  # seconds that one attempt to commit may take
_PAUSE = 0.5  # seconds between attempts while the database is unavailable


Batch = Sequence[tuple[InHand, Booking]]


async def book(pool: Pool, secrets: Secrets, batch: Batch) -> None:
    """Commit outcomes, retrying as long as necessary: a restart must not forget an acceptance.

    If they cannot be committed together, commit them one by one, so that a row held by a vanished process delays no
    other.
    """
    if not batch:
        return
    try:
        booked = await _commit(pool, secrets, batch)
    except DatabaseUnavailableError:
        log.warning("mail outcomes wait for the database", outcomes=len(batch))
        booked = await _commit_each(pool, secrets, batch)
    for held, booking in booked:
        _report(held, booking)
    await _note_outcomes(pool, batch)


async def _commit_each(pool: Pool, secrets: Secrets, batch: Batch) -> Batch:
    booked: list[tuple[InHand, Booking]] = []
    waiting = list(batch)
    while waiting:
        await trio.sleep(_PAUSE)
        for each in list(waiting):
            try:
                booked += await _commit(pool, secrets, [each])
            except DatabaseUnavailableError:
                continue
            waiting.remove(each)
        if waiting:
            log.warning("mail outcomes wait for the database", outcomes=len(waiting))
    return booked


async def _commit(pool: Pool, secrets: Secrets, batch: Batch) -> Batch:
    """Commit outcomes and return them as booked: refusals that concern us are held instead of bounced."""
    async with pool.transaction(limit=_LIMIT) as conn:
        if any(isinstance(held.outcome, Refused | Bounced) for held, _ in batch):
            state = judge(await breaker.get_breaker(conn), _evidence(batch))
            batch = [(held, _judge(held, booking, state)) for held, booking in batch]
        await _note_families(conn, batch)
        await _write(conn, secrets, batch)
    return batch


async def _note_families(conn: Connection, batch: Batch) -> None:
    """Hold the families of receivers that throttle, and release those that took the mail that tested them."""
    throttling = {held.family for held, _ in batch if families.is_throttling(held.outcome)}
    passed = {held.family for held, _ in batch if held.testing and isinstance(held.outcome, Accepted)}
    if throttling:
        await families.hold_families(conn, throttling)
    if passed - throttling:
        await families.release_families(conn, passed - throttling)


def _judge(held: InHand, booking: Booking, state: Breaker) -> Booking:
    evidence, outcome = held.evidence, held.outcome
    if evidence is None or not isinstance(outcome, Refused | Bounced) or not is_alike(state, evidence):
        return booking
    return retry_policy.next_step(held.job, outcome, alike=True)


def _evidence(batch: Batch) -> list[Evidence]:
    return [held.evidence for held, _ in batch if held.evidence is not None]


async def _note_outcomes(pool: Pool, batch: Batch) -> None:
    """Report outcomes to the breaker; losing them is harmless, as later outcomes show the same."""
    evidence = _evidence(batch)
    try:
        async with pool.connection() as conn:
            opened = await breaker.note_outcomes(conn, evidence)
            state = await breaker.get_breaker(conn) if opened else None
    except DatabaseUnavailableError:
        log.warning("mail breaker not told: the database is away", outcomes=len(evidence))
        return
    report_breaker(state, opened=opened)


async def _write(conn: Connection, secrets: Secrets, batch: Sequence[tuple[InHand, Booking]]) -> None:
    sent = [(booking, held.letter.sent_as) for held, booking in batch if isinstance(booking, Sent)]
    batch, unknown = await _follow(conn, batch)
    waiting = [(booking, held.letter.silent) for held, booking in batch if isinstance(booking, Held)]
    retries = [booking for _, booking in batch if isinstance(booking, Retry)]
    ended = [booking for _, booking in batch if isinstance(booking, Ended)]
    if sent:
        booked = await bookings.book_sent(conn, sent)
        await mail_status.show_sent(conn, booked)
        await show_reported(conn, secrets, booked)
    if waiting:
        # Waiting messages are shown as sent before their rows become silent.
        await mail_status.show_sent(conn, [booking.job.id for booking, silent in waiting if not silent])
        await bookings.book_held(conn, [booking for booking, _ in waiting])
        await schedule_facts(conn, [booking for booking, silent in waiting if not silent])
    if retries:
        await mail_status.show_delayed(conn, await bookings.book_retries(conn, retries))
    if ended:
        await mail_status.show_bounced(conn, await bookings.book_ended(conn, ended))
    if unknown:
        await leases.release_jobs(conn, unknown, after=turns.AGAIN)


async def _follow(conn: Connection, batch: Batch) -> tuple[Batch, list[Job]]:
    """Return the outcomes that followers show, and the jobs of followers whose leader is undecided."""
    followed = {
        booking.leader
        for held, booking in batch
        if isinstance(booking, Held) and booking.leader is not None and held.is_shown
    }
    if not followed:
        return batch, []
    leaders = await turns.find_leaders(conn, followed)
    known: list[tuple[InHand, Booking]] = []
    unknown: list[Job] = []
    for held, booking in batch:
        if not isinstance(booking, Held) or booking.leader is None or not held.is_shown:
            known.append((held, booking))
            continue
        shown = turns.follow(booking, leaders.get(booking.leader))
        if shown is None:
            unknown.append(held.job)
        else:
            known.append((held, shown))
    return known, unknown


def report_breaker(state: Breaker | None, *, opened: bool | None) -> None:
    """Log that the breaker opened or closed."""
    if opened and state is not None:
        log.error(
            "mail breaker opened: sending is paused",
            reason=state.reason,
            stage=state.stage,
            reply=state.reply,
            remedy=find_remedy(state.reason, state.reply),
        )
    elif opened is False:
        log.info("mail breaker closed: what waited is sent")


def _report(held: InHand, booking: Booking) -> None:
    """Log the outcome of a message."""
    letter = held.letter
    fields = {"mail": str(held.job.id), "recipient": mask_email(letter.email), "attempt": held.job.attempts}
    fields |= {} if held.trace_id is None else {"trace_id": held.trace_id}
    match booking:
        case Sent(job=job, reply=reply, route=route):
            MAILS.labels("sent").inc()
            if job.dated is not None:
                seconds = (datetime.now(UTC) - job.dated).total_seconds()
                ACCEPTED_AFTER.labels(families.find_family(letter.email.rpartition("@")[2])).observe(
                    max(0.0, seconds)
                )
            by = {"route": route} if route else {}
            log.info("mail accepted", **fields, **by, reply=reply)
            if job.route is not None and job.route != route:
                # By then its first route may have delivered it, too.
                MAILS.labels("ambiguous").inc()
                log.warning("mail possibly sent twice", **fields, **by, before=job.route)
        case Retry(after=after, reason=reason, reply=reply):
            MAILS.labels("delayed").inc()
            log.warning(
                "mail delayed", **fields, reason=reason, reply=reply, next_try_in=round(after.total_seconds())
            )
        case Held():
            MAILS.labels("held_back").inc()
            log.info("mail held back for its address", **fields)
        case Ended(state=state, reason=reason, reply=reply):
            MAILS.labels(state).inc()
            log.warning("mail ended", **fields, outcome=state, reason=reason, reply=reply)
