"""From due mails to claimed ones that are in the courier's line: the part that both ways to a mail share.

What a mail becomes is decided here, in the transaction that claims it: whom it goes to, what it says, whether it is
its address's turn, and whether anything is sent at all while the mail server refuses us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import structlog
import trio

from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.mails.account_mails import AccountLetter, begin_sending_account, choose_accounts
from regsvc.accounts.mails.legacy import begin_sending_foreign
from regsvc.accounts.registrations import mail_status
from regsvc.consumer.courier import MARGIN, Courier
from regsvc.consumer.letters import AnyLetter
from regsvc.consumer.outcomes import InHand
from regsvc.mail.outcome import CONNECTION_REASONS, Accepted, Outcome
from regsvc.mail.queue import bookings, breaker, jobs, retry_policy
from regsvc.mail.queue.bookings import Ended, Retry
from regsvc.mail.queue.breaker import Breaker
from regsvc.mail.queue.jobs import Job
from regsvc.metrics import MAILS
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets
from regsvc.waiting import wait_any

log = structlog.get_logger()

Claim = Callable[[Connection], Awaitable[Sequence[Job]]]

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Taken:
    """How many jobs were claimed, and which mails are in hand now."""

    claimed: int = 0
    in_hand: frozenset[UUID] = frozenset()


async def probe(courier: Courier) -> None:
    """Find out whether the mail server is back, if it is time to.

    Where it could not be reached, that is tried without a mail first: being away costs no mail an attempt.
    """
    async with courier.pool.connection() as conn:
        reason = await breaker.get_due_probe(conn)
    if reason is None:
        return
    if reason in CONNECTION_REASONS:
        outcome = await _check(courier)
        if outcome is None:
            return
        if not isinstance(outcome, Accepted):
            async with courier.pool.transaction() as conn:
                await breaker.note_failed_probe(conn, outcome)
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
    claimed_at = trio.current_time()
    with courier.taking() as transport:
        if transport is None:
            return None
        async with courier.pool.transaction() as conn:
            claimed = await claim(conn)
            if not claimed:
                return Taken()
            if not probing and (state := await breaker.keep_open(conn)).open:
                await _hold(conn, claimed, state)
                return Taken(len(claimed))
            nobodys = [job.id for job in claimed if job.registration_id is None]
            others = await _begin_others(conn, courier.secrets, nobodys) if nobodys else []
            begun = await mail_status.begin_sending(conn, [job.id for job in claimed])
            letters = {letter.mail_id: letter for letter in (*begun, *others)}
            over = [Ended(job, "cancelled", "registration_over") for job in claimed if job.id not in letters]
            if over:
                await bookings.book_ended(conn, over)
            turns = await _take_turns(conn, courier.secrets, claimed, letters) if courier.spaced else {}
        held_until = claimed_at + jobs.LEASE.total_seconds() - MARGIN
        courier.add(
            [
                InHand(job, letters[job.id], held_until, turns.get(job.id), probing=probing)
                for job in claimed
                if job.id in letters
            ]
        )
    return Taken(len(claimed), frozenset(letters))


async def _take_turns(
    conn: Connection, secrets: Secrets, claimed: Sequence[Job], letters: dict[UUID, AnyLetter]
) -> dict[UUID, datetime]:
    """Take the turns of the addresses of these mails, and return when it is those mails' that have none.

    Of several mails of one address the newest attempt's is sent. A mail has one turn, however many tries it takes.
    """
    newest: dict[bytes, UUID] = {}
    keys: dict[UUID, bytes] = {}
    for job in sorted(claimed, key=lambda job: letters[job.id].created_at if job.id in letters else _NEVER):
        letter = letters.get(job.id)
        if letter is not None and job.attempts == 1 and not letter.admitted:
            keys[job.id] = (
                letter.turn(secrets)
                if isinstance(letter, AccountLetter)
                else mail_schedule.address_key(secrets, letter.email_key)
            )
            newest[keys[job.id]] = job.id
    if not keys:
        return {}
    taken = await mail_schedule.take_turns(conn, newest)
    early = [mail_id for mail_id, key in keys.items() if key not in taken or newest[key] != mail_id]
    if not early:
        return {}
    turns = await mail_schedule.next_turns(conn, {keys[mail_id] for mail_id in early})
    return {mail_id: turns[keys[mail_id]] for mail_id in early}


async def _hold(conn: Connection, claimed: Sequence[Job], state: Breaker) -> None:
    steps = [retry_policy.hold(job, state) for job in claimed]
    held = [step for step in steps if isinstance(step, Retry)]
    over = [step for step in steps if isinstance(step, Ended)]
    await mail_status.show_delayed(conn, await bookings.hold_jobs(conn, held))
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
