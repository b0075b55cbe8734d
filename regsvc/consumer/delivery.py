"""From a claimed job to a booked outcome: the part that both ways to a job share.

A delivery holds jobs under their leases, sends them over several sessions at once, and has what became of them
booked in batches, because PostgreSQL lets commits that NOTIFY through one at a time. Whoever claims waits for room
first, so that no more is claimed than will be sent soon. Between the mail server's "accepted" and our commit lies the
one window in which a crash doubles a mail; nothing but the booking happens in it.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import structlog
import trio

from regsvc.accounts import registration, schedule
from regsvc.accounts.account_mails import AccountLetter, begin_sending_account, choose_accounts
from regsvc.accounts.foreign import begin_sending_foreign
from regsvc.consumer.letters import AnyLetter, LetterWriter
from regsvc.consumer.outcomes import Booking, InHand, book
from regsvc.errors import DatabaseUnavailableError
from regsvc.mail import bookings, breaker, jobs, policy
from regsvc.mail.bookings import Ended, Held, Retry, Sent
from regsvc.mail.breaker import Breaker
from regsvc.mail.envelope import UnusableAddressError
from regsvc.mail.jobs import Job
from regsvc.mail.outcome import CONNECTION_REASONS, Aborted, Accepted, Bounced, Outcome
from regsvc.mail.transport import Transport
from regsvc.metrics import MAILS
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.waiting import wait_any

log = structlog.get_logger()

Claim = Callable[[Connection], Awaitable[Sequence[Job]]]
OnBooked = Callable[[Collection[UUID]], Awaitable[None]]

_MARGIN = 5.0  # seconds before the end of a lease after which nothing more is sent under it
_FINISHING = 15.0  # seconds that what is in hand has, once nothing new is taken
_NEVER = datetime.min.replace(tzinfo=UTC)
_USUAL = 0.05  # seconds that sending a mail takes, until it is known


@dataclass(frozen=True)
class Taken:
    """How many jobs were claimed, and which mails are in hand now."""

    claimed: int
    in_hand: frozenset[UUID]


@dataclass(eq=False)
class Delivery:
    """What sends and books; made by `open_delivery`.

    Args:
        pool: PostgreSQL.
        transport: the way to the mail server.
        writer: makes mails of letters.
        stopping: the process is asked to end.
        room: how many jobs may be in hand.
        spaced: mails of one address keep to its schedule.
        on_booked: is told which mails are dealt with, once that is committed; it must not raise.
    """

    pool: Pool
    transport: Transport
    writer: LetterWriter
    stopping: trio.Event
    room: int
    spaced: bool = True
    on_booked: OnBooked | None = None
    _in_hand: dict[UUID, InHand] = field(default_factory=dict)
    _outcomes: list[tuple[InHand, Booking | None]] = field(default_factory=list)
    _usual: float = _USUAL
    _finish_by: float = math.inf
    _broken: trio.Event = field(default_factory=trio.Event)
    _outcome_came: trio.Event = field(default_factory=trio.Event)
    _room_made: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        """Make the line that the senders take from; the room bounds it."""
        self._send, self._receive = trio.open_memory_channel[InHand](math.inf)

    @property
    def free(self) -> int:
        """How many more jobs may be claimed."""
        return self.room - len(self._in_hand)

    async def wait_room(self) -> int:
        """Wait until half of the room is free, and return how many jobs may be claimed.

        The other half keeps the senders busy meanwhile, and a claim costs little more for many than for one.
        """
        while self.free < self.room / 2:
            await self._room_made.wait()
        return self.free

    async def probe(self) -> None:
        """Find out whether the mail server is back, if it is time to.

        Where it could not be reached, that is tried without a mail first: being away costs no mail an attempt.
        """
        async with self.pool.connection() as conn:
            reason = await breaker.get_due_probe(conn)
        if reason is None:
            return
        if reason in CONNECTION_REASONS:
            outcome = await self.transport.check()
            if not isinstance(outcome, Accepted):
                async with self.pool.transaction() as conn:
                    await breaker.note_failed_probe(conn, outcome)
                return
        await self.take(breaker.claim_probe, probing=True)

    async def take(self, claim: Claim, *, probing: bool = False) -> Taken:
        """Claim jobs, show their registrations as being sent, and put them in line.

        While the breaker is open they are held instead, and no attempt is counted.

        Args:
            claim: claims no more than there is room for, in the transaction that it is given.
            probing: whatever the breaker says.

        Returns:
            What came of it. Mails that are not wanted any more are cancelled on the way.
        """
        claimed_at = trio.current_time()
        async with self.pool.transaction() as conn:
            claimed = await claim(conn)
            if not claimed:
                return Taken(0, frozenset())
            if not probing and (state := await breaker.keep_open(conn)).open:
                await self._hold(conn, claimed, state)
                return Taken(len(claimed), frozenset())
            nobodys = [job.id for job in claimed if job.registration_id is None]
            others = await _begin_others(conn, nobodys) if nobodys else []
            begun = await registration.begin_sending(conn, [job.id for job in claimed])
            letters = {letter.mail_id: letter for letter in (*begun, *others)}
            over = [Ended(job, "cancelled", "registration_over") for job in claimed if job.id not in letters]
            if over:
                await bookings.book_ended(conn, over)
            turns = await self._turns(conn, claimed, letters) if self.spaced else {}
        for job in claimed:
            if job.id in letters:
                held_until = claimed_at + jobs.LEASE.total_seconds() - _MARGIN
                held = InHand(job, letters[job.id], held_until, turns.get(job.id), probing=probing)
                self._in_hand[job.id] = held
                self._send.send_nowait(held)
        return Taken(len(claimed), frozenset(letters))

    async def _turns(
        self, conn: Connection, claimed: Sequence[Job], letters: dict[UUID, AnyLetter]
    ) -> dict[UUID, datetime]:
        """Take the turns of the addresses of these mails, and return when it is those mails' that have none.

        Of several mails of one address the newest attempt's is sent. A mail has one turn, however many tries it takes.
        """
        newest: dict[bytes, UUID] = {}
        keys: dict[UUID, bytes] = {}
        for job in sorted(
            claimed, key=lambda job: letters[job.id].created_at if job.id in letters else _NEVER
        ):
            letter = letters.get(job.id)
            if letter is not None and job.attempts == 1 and not letter.admitted:
                keys[job.id] = (
                    letter.turn
                    if isinstance(letter, AccountLetter)
                    else schedule.address_key(letter.email_key)
                )
                newest[keys[job.id]] = job.id
        if not keys:
            return {}
        taken = await schedule.take_turns(conn, newest)
        early = [mail_id for mail_id, key in keys.items() if key not in taken or newest[key] != mail_id]
        if not early:
            return {}
        turns = await schedule.next_turns(conn, {keys[mail_id] for mail_id in early})
        return {mail_id: turns[keys[mail_id]] for mail_id in early}

    async def _hold(self, conn: Connection, claimed: Sequence[Job], state: Breaker) -> None:
        steps = [policy.hold(job, state) for job in claimed]
        held = [step for step in steps if isinstance(step, Retry)]
        over = [step for step in steps if isinstance(step, Ended)]
        await registration.show_delayed(conn, await bookings.hold_jobs(conn, held))
        MAILS.labels("held").inc(len(held))
        log.info("mails held while the mail server refuses us", mails=len(held), reason=state.reason)
        if over:
            await registration.show_bounced(conn, await bookings.book_ended(conn, over))
            MAILS.labels("dead").inc(len(over))
            log.warning("mails given up", mails=len(over), reason=state.reason)

    async def send_mails(self) -> None:
        """Send what is in line, one mail after the other; several of these run side by side."""
        async for held in self._receive.clone():
            if not held.is_held():
                self._drop(held)
                continue
            if held.turn_at is not None:
                await self._pretend(held, held.turn_at)
                continue
            log.info(
                "mail sending", mail=str(held.job.id), recipient=held.letter.email, attempt=held.job.attempts
            )
            try:
                envelope = self.writer.write(held.letter)
                begun = trio.current_time()
                outcome = await self.transport.send(envelope, before_dot=held.is_held)
                self._usual += (trio.current_time() - begun - self._usual) / 8
            except UnusableAddressError as error:
                outcome = Bounced("recipient_invalid", "mail", str(error))
            except Exception:
                # A mail that we cannot write or send for a reason of our own must not hold up the others.
                log.exception("mail failed", mail=str(held.job.id))
                self._note(held, policy.put_off(held.job, "internal_error"))
                continue
            self._settle(held, outcome)

    async def _pretend(self, held: InHand, turn_at: datetime) -> None:
        """Take as long as sending does, so that nobody can tell by the clock that a mail is held back."""
        if not held.letter.silent:
            await trio.sleep(self._usual)
        self._note(held, Held(held.job, turn_at))

    def _settle(self, held: InHand, outcome: Outcome) -> None:
        """Turn what the transport says into what is booked."""
        if isinstance(outcome, Aborted):
            self._drop(held)
            return
        held.outcome = outcome
        self._note(held, policy.next_step(held.job, outcome, probing=held.probing))

    def _note(self, held: InHand, booking: Booking | None) -> None:
        """Have an outcome booked; None is a job that somebody else has taken up, or will."""
        self._outcomes.append((held, booking))
        self._outcome_came.set()

    def _drop(self, held: InHand) -> None:
        MAILS.labels("lease_lost").inc()
        log.warning("mail lease lost", mail=str(held.job.id))
        self._note(held, None)

    def _forget(self, done: Sequence[InHand]) -> None:
        for held in done:
            self._in_hand.pop(held.job.id, None)
        self._room_made.set()
        self._room_made = trio.Event()

    async def book_outcomes(self) -> None:
        """Book outcomes as they come, all that came while the last ones were committed at once."""
        try:
            await self._book_outcomes()
        finally:
            self._broken.set()

    async def _book_outcomes(self) -> None:
        while True:
            await self._outcome_came.wait()
            self._outcome_came = trio.Event()
            batch, self._outcomes = self._outcomes, []
            await book(self.pool, [(held, booking) for held, booking in batch if booking is not None])
            for held, booking in batch:
                if isinstance(booking, Sent):
                    self.writer.announce(held.letter)
            if self.on_booked is not None:
                await self.on_booked([held.job.id for held, _ in batch])
            self._forget([held for held, _ in batch])

    async def renew_leases(self) -> None:
        """Renew the leases of what is in hand; what was lost is not sent any more."""
        while True:
            await trio.sleep(jobs.RENEW_EVERY.total_seconds())
            held = list(self._in_hand.values())
            if not held:
                continue
            renewed_at = trio.current_time()
            try:
                async with self.pool.connection() as conn:
                    ours = await jobs.renew_leases(conn, [h.job for h in held])
            except DatabaseUnavailableError:
                continue  # the leases run out by themselves, and with them the right to send
            for h in held:
                ends = jobs.LEASE.total_seconds() - _MARGIN
                h.held_until = renewed_at + ends if h.job.id in ours else renewed_at

    async def finish(self) -> None:
        """Give back what is in line and wait until what is being sent is sent and booked.

        Whoever ends for want of a database or a broker waits as long as that takes: what the server accepted must not
        be forgotten for it. Once the process is asked to end, 15 s are all there is.
        """
        with trio.CancelScope(shield=True) as scope:
            await wait_any(self._wait_finished, self._broken.wait, partial(self._limit_finish, scope))

    async def _wait_finished(self) -> None:
        try:
            await self.release_unbegun()
        except DatabaseUnavailableError:
            log.warning("mails in line wait for their leases to run out")
        while self._in_hand:
            await self._room_made.wait()

    async def _limit_finish(self, scope: trio.CancelScope) -> None:
        await self.stopping.wait()
        self._finish_by = min(self._finish_by, trio.current_time() + _FINISHING)
        scope.deadline = self._finish_by
        await trio.sleep_forever()

    async def release_unbegun(self) -> None:
        """Give back what is in line, so that others may send it at once."""
        waiting = []
        while True:
            try:
                waiting.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
        if not waiting:
            return
        try:
            async with self.pool.transaction() as conn:
                admitted = [held.job.id for held in waiting if held.turn_at is None]
                await jobs.release_jobs(conn, [held.job for held in waiting], admitted=admitted)
        finally:
            self._forget(waiting)


async def _begin_others(conn: Connection, mail_ids: Sequence[UUID]) -> list[AnyLetter]:
    """Decide whose the mails are that were asked for by address alone; return what to send of no registration."""
    await registration.choose_attempts(conn, mail_ids)
    await choose_accounts(conn, mail_ids)
    return [
        *await begin_sending_foreign(conn, mail_ids),
        *await begin_sending_account(conn, mail_ids),
    ]


@asynccontextmanager
async def open_delivery(
    pool: Pool,
    transport: Transport,
    writer: LetterWriter,
    *,
    sessions: int,
    spaced: bool,
    stopping: trio.Event,
) -> AsyncIterator[Delivery]:
    """Run a delivery as long as the block lasts.

    However the block ends, what is in hand is finished first: mails that are being sent are sent and booked, those
    in line are given back; what is cut off is taken up again when its lease runs out.

    Args:
        pool: PostgreSQL.
        transport: the way to the mail server.
        writer: makes mails of letters.
        sessions: how many mails are sent at the same time.
        spaced: mails of one address keep to its schedule.
        stopping: the process is asked to end.
    """
    delivery = Delivery(pool, transport, writer, stopping, room=sessions * 16, spaced=spaced)
    async with trio.open_nursery() as nursery:
        for _ in range(sessions):
            nursery.start_soon(delivery.send_mails)
        nursery.start_soon(transport.tend)
        nursery.start_soon(delivery.book_outcomes)
        nursery.start_soon(delivery.renew_leases)
        try:
            yield delivery
        finally:
            await delivery.finish()
            nursery.cancel_scope.cancel()
