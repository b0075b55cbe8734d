"""Delivery: from due messages to claimed ones in the courier's line, shared by mailer and subscriber.

The transaction that claims a message decides its recipient, its contents, whether it has its address's turn, and
whether anything is sent while the mail server refuses us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from regsvc.accounts.invitations.letters import begin_sending_invitations
from regsvc.accounts.mails.account_mails import begin_sending_account, choose_accounts
from regsvc.accounts.mails.admission import admit_known
from regsvc.accounts.mails.legacy import begin_sending_legacy
from regsvc.accounts.mails.turns import AnyLetter, take_turns
from regsvc.accounts.registrations import mail_status
from regsvc.consumer.sending.courier import Courier
from regsvc.consumer.sending.in_hand import InHand
from regsvc.consumer.sending.outcomes import report_breaker
from regsvc.consumer.sending.suppressing import hold_suppressed
from regsvc.consumer.sending.throttled import give_tests_back, hold_throttled
from regsvc.jobs.keeping import TRUSTED
from regsvc.mail.outcome import Accepted, Outcome
from regsvc.mail.queue import bookings, breaker, leases, retry_policy
from regsvc.mail.queue.bookings import Ended, Retry
from regsvc.mail.queue.jobs import Job
from regsvc.mail.queue.verdict import CHECKED, Breaker, Evidence
from regsvc.metrics import MAILS
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets
from regsvc.tracing.trace_context import TraceContext
from regsvc.waiting import lease_time, wait_any

log = structlog.get_logger()

Claim = Callable[[Connection, Breaker], Awaitable[Sequence[Job]]]

_UNPUBLISHED: Mapping[UUID, TraceContext | None] = {}
LATER = timedelta(seconds=2)  # until rows held by another transaction are looked at again


@dataclass(frozen=True)
class Taken:
    """The result of a claim.

    Args:
        state: state of the breaker.
        claimed: number of jobs claimed.
        in_hand: ids of messages now in hand.
    """

    state: Breaker
    claimed: int = 0
    in_hand: frozenset[UUID] = frozenset()


async def probe(courier: Courier) -> None:
    """Probe the mail server if a probe is due.

    If it failed before a message was offered, test that first without one: an outage costs no message an attempt.
    """
    async with courier.pool.connection() as conn:
        stage = await breaker.get_due_probe(conn)
        if stage is None or not await breaker.take_probe(conn):
            return
    if stage in CHECKED:
        outcome = await _check(courier)
        if outcome is None:
            return
        if not isinstance(outcome, Accepted):
            async with courier.pool.connection() as conn:
                opened = await breaker.note_outcomes(conn, [Evidence(outcome)])
                state = await breaker.get_breaker(conn)
            report_breaker(state, opened=opened)
            return
    await take(courier, breaker.claim_probe, probing=True)


async def _check(courier: Courier) -> Outcome | None:
    """Test the mail server without a message; return None if the process is ending."""
    transport, found = courier.transport, list[Outcome]()
    if transport is None:
        return None

    async def check() -> None:
        found.append(await transport.check())

    await wait_any(check, courier.stopping.wait)
    return found[0] if found else None


async def take(
    courier: Courier,
    claim: Claim,
    *,
    probing: bool = False,
    published: Mapping[UUID, TraceContext | None] = _UNPUBLISHED,
) -> Taken | None:
    """Claim jobs, show their registrations as being sent, and put them in line.

    While the breaker is open they are held instead, and no attempt is counted.

    Args:
        courier: sends the messages.
        claim: claims at most as many as fit, in the given transaction.
        probing: claim even while the breaker is open.
        published: the spans that published the ids of these jobs.

    Returns:
        The result, or None if the courier takes nothing now and nothing was claimed. Messages no longer
        wanted are cancelled.
    """
    claimed_at = lease_time()
    with courier.taking() as transport:
        if transport is None:
            return None
        async with courier.pool.transaction() as conn:
            state = await breaker.get_breaker(conn)
            claimed = await claim(conn, state)
            if not claimed:
                return Taken(state)
            if state.open and not probing:
                await _hold(conn, claimed, state)
                return Taken(state, len(claimed))
            letters = await _write_letters(conn, courier.secrets, claimed)
            others = [job for job in claimed if job.id not in letters]
            suppressed, unwanted = await hold_suppressed(conn, courier.secrets, letters)
            if unwanted:
                over = [Ended(job, "cancelled", "suppressed") for job in claimed if job.id in unwanted]
                await bookings.book_ended(conn, over)
                letters = {mail_id: letter for mail_id, letter in letters.items() if mail_id not in unwanted}
            tests = await hold_throttled(
                conn, claimed, letters, unsent=suppressed, find_key=courier.exchangers.key
            )
            sent = [job for job in claimed if job.id not in suppressed and job.id not in unwanted]
            turns, later = (
                await take_turns(conn, courier.secrets, sent, letters) if courier.spaced else ({}, [])
            )
            turns |= suppressed
            await give_tests_back(
                conn, tests, unsent=[id_ for id_ in tests.testing if id_ in turns or id_ not in letters]
            )
            if others or later:
                await _settle_others(conn, others, later)
        held_until = claimed_at + TRUSTED
        courier.add(
            [
                InHand(
                    job,
                    letters[job.id],
                    held_until,
                    turns.get(job.id),
                    probing=probing,
                    testing=job.id in tests.testing and job.id not in turns,
                    find_key=courier.exchangers.key,
                    published=published.get(job.id),
                )
                for job in claimed
                if job.id in letters
            ]
        )
    return Taken(state, len(claimed), frozenset(letters))


async def _write_letters(conn: Connection, secrets: Secrets, claimed: Sequence[Job]) -> dict[UUID, AnyLetter]:
    """Show the registrations of these messages as being sent, and return the letters by message id."""
    nobodys = [job.id for job in claimed if job.registration_id is None]
    others = await _begin_others(conn, secrets, nobodys) if nobodys else []
    begun = await mail_status.begin_sending(conn, [job.id for job in claimed])
    begun = await admit_known(conn, secrets, begun)
    return {letter.mail_id: letter for letter in (*begun, *others)}


async def _settle_others(conn: Connection, others: Sequence[Job], later: Sequence[Job]) -> None:
    """Cancel claimed messages that are no longer wanted; release those another transaction holds."""
    busy = await mail_status.find_wanted(conn, [job.id for job in others])
    over = [Ended(job, "cancelled", "registration_over") for job in others if job.id not in busy]
    if over:
        await bookings.book_ended(conn, over)
    later = [*later, *(job for job in others if job.id in busy)]
    if later:
        await leases.release_jobs(conn, later, after=LATER)


async def _hold(conn: Connection, claimed: Sequence[Job], state: Breaker) -> None:
    steps = [retry_policy.hold(job, state) for job in claimed]
    held = [step for step in steps if isinstance(step, Retry)]
    over = [step for step in steps if isinstance(step, Ended)]
    await mail_status.show_delayed(conn, await bookings.hold_jobs(conn, held, since=state.recovered))
    MAILS.labels("held").inc(len(held))
    log.info("mails held while the mail server refuses us", mails=len(held), reason=state.reason)
    if over:
        await mail_status.show_bounced(conn, await bookings.book_ended(conn, over))
        MAILS.labels("dead").inc(len(over))
        log.warning("mails given up", mails=len(over), reason=state.reason)


async def _begin_others(conn: Connection, secrets: Secrets, mail_ids: Sequence[UUID]) -> list[AnyLetter]:
    """Decide the recipients of messages requested by address; return the letters without a registration."""
    await mail_status.choose_attempts(conn, mail_ids)
    await choose_accounts(conn, secrets, mail_ids)
    return [
        *await begin_sending_legacy(conn, mail_ids),
        *await begin_sending_invitations(conn, mail_ids),
        *await begin_sending_account(conn, mail_ids),
    ]
