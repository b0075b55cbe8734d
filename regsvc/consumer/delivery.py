"""From due mails to claimed ones that are in the courier's line: the part that both ways to a mail share.

What a mail becomes is decided here, in the transaction that claims it: whom it goes to, what it says, whether it is
its address's turn, and whether anything is sent at all while the mail server refuses us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from regsvc.accounts.mails.account_mails import begin_sending_account, choose_accounts
from regsvc.accounts.mails.legacy import begin_sending_foreign
from regsvc.accounts.mails.turns import AnyLetter, take_turns
from regsvc.accounts.registrations import mail_status
from regsvc.consumer.courier import Courier
from regsvc.consumer.lease import TRUSTED
from regsvc.consumer.outcomes import InHand, report_breaker
from regsvc.mail.outcome import Accepted, Outcome
from regsvc.mail.queue import bookings, breaker, leases, retry_policy
from regsvc.mail.queue.bookings import Ended, Retry
from regsvc.mail.queue.jobs import Job
from regsvc.mail.queue.verdict import Breaker, Evidence
from regsvc.metrics import MAILS
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets
from regsvc.waiting import lease_time, wait_any

log = structlog.get_logger()

Claim = Callable[[Connection, Breaker], Awaitable[Sequence[Job]]]

LATER = timedelta(seconds=2)  # until what another transaction holds is looked at again


@dataclass(frozen=True)
class Taken:
    """What came of claiming.

    Args:
        state: how the breaker stood.
        claimed: how many jobs were claimed.
        in_hand: which mails are in hand now.
    """

    state: Breaker
    claimed: int = 0
    in_hand: frozenset[UUID] = frozenset()


async def probe(courier: Courier) -> None:
    """Find out whether the mail server is back, if it is time to.

    Where it failed before there was a mail, that is tried without one first: being away costs no mail an attempt.
    """
    async with courier.pool.connection() as conn:
        stage = await breaker.get_due_probe(conn)
        if stage is None or not await breaker.take_probe(conn):
            return
    if stage in breaker.CHECKED:
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
    """Find out whether a mail could be sent; None: the process is asked to end, and nobody waits for the answer."""
    transport, found = courier.transport, list[Outcome]()
    if transport is None:
        return None

    async def check() -> None:
        found.append(await transport.check())

    await wait_any(check, courier.stopping.wait)
    return found[0] if found else None


async def take(courier: Courier, claim: Claim, *, probing: bool = False) -> Taken | None:
    """Claim jobs, show their registrations as being sent, and put them in line.

    While the breaker is open they are held instead, and no attempt is counted.

    Args:
        courier: sends them.
        claim: claims no more than there is room for, in the transaction that it is given.
        probing: whatever the breaker says.

    Returns:
        What came of it; None if the courier takes nothing at the moment, and nothing was claimed. Mails that are not
        wanted any more are cancelled on the way.
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
            turns, later = (
                await take_turns(conn, courier.secrets, claimed, letters) if courier.spaced else ({}, [])
            )
            if others or later:
                await _settle_others(conn, others, later)
        held_until = claimed_at + TRUSTED
        courier.add(
            [
                InHand(job, letters[job.id], held_until, turns.get(job.id), probing=probing)
                for job in claimed
                if job.id in letters
            ]
        )
    return Taken(state, len(claimed), frozenset(letters))


async def _write_letters(conn: Connection, secrets: Secrets, claimed: Sequence[Job]) -> dict[UUID, AnyLetter]:
    """Show the registrations of these mails as being sent, and return what to send, by mail."""
    nobodys = [job.id for job in claimed if job.registration_id is None]
    others = await _begin_others(conn, secrets, nobodys) if nobodys else []
    begun = await mail_status.begin_sending(conn, [job.id for job in claimed])
    return {letter.mail_id: letter for letter in (*begun, *others)}


async def _settle_others(conn: Connection, others: Sequence[Job], later: Sequence[Job]) -> None:
    """Cancel claimed mails that are not wanted any more; give back those that another transaction decides about."""
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
    """Decide whose the mails are that were asked for by address alone; return what to send of no registration."""
    await mail_status.choose_attempts(conn, mail_ids)
    await choose_accounts(conn, secrets, mail_ids)
    return [
        *await begin_sending_foreign(conn, mail_ids),
        *await begin_sending_account(conn, mail_ids),
    ]
