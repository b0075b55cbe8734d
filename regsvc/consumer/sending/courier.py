"""The courier: sends claimed messages and books their outcomes.

It is a child of its own, so that failures of the claiming children, above all the loss of a broker or a database, do
not affect messages in hand: those children restart while the courier continues. All messages in hand are under leases.
Messages use several sessions concurrently. Outcomes are booked in batches, because PostgreSQL serialises commits that
NOTIFY. A crash between the mail server's acceptance and our commit duplicates a message, so nothing but the booking
happens in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial

import structlog
import trio

from regsvc.accounts.limits.mail_schedule import Turn
from regsvc.consumer.sending.exchangers import Exchangers
from regsvc.consumer.sending.in_hand import InHand, MailsInHand
from regsvc.consumer.sending.letters import LetterWriter
from regsvc.consumer.sending.line import Line
from regsvc.consumer.sending.outcomes import Booking, book
from regsvc.consumer.sending.release import release, shed
from regsvc.consumer.sending.sharing import share_routes
from regsvc.consumer.sending.traced import trace_sending
from regsvc.dns.resolver import Resolver
from regsvc.errors import DatabaseUnavailableError
from regsvc.jobs.keeping import keep_leases
from regsvc.logs import mask_email
from regsvc.mail.envelope import Envelope
from regsvc.mail.mailbox import UnusableAddressError
from regsvc.mail.outcome import Aborted, Bounced, Outcome
from regsvc.mail.queue import retry_policy
from regsvc.mail.queue.bookings import Held, Sent
from regsvc.mail.queue.jobs import MAIL_JOBS, Job
from regsvc.mail.routes.router import Router, Way
from regsvc.mail.transport import Transport
from regsvc.metrics import MAILS
from regsvc.postgres.pool import Pool
from regsvc.waiting import Alarm, wait_any

log = structlog.get_logger()

_FINISHING = 15.0  # seconds to finish messages in hand, once nothing new is taken
_USUAL = 0.05  # seconds assumed for sending a message, until measured
_ROOM = 16  # jobs in hand per session
_RELIEVE_EVERY = 0.5  # seconds between looks for messages whose route does not answer


class Courier:
    """The sender of claimed messages.

    Args:
        pool: PostgreSQL.
        open_transport: opens the connection to the mail server.
        writer: composes messages.
        sessions: messages sent concurrently.
        spaced: whether messages follow the schedule of their address.
        stopping: set when the process is to end.
        exchangers: know the families behind domains of their own.
    """

    def __init__(
        self,
        pool: Pool,
        open_transport: Callable[[], Transport],
        writer: LetterWriter,
        *,
        sessions: int,
        spaced: bool,
        stopping: trio.Event,
        exchangers: Exchangers | None = None,
    ) -> None:
        self.exchangers = exchangers or Exchangers(Resolver())
        self.pool = pool
        self.spaced = spaced
        self.secrets = writer.secrets
        self.room = sessions * _ROOM
        self._open_transport = open_transport
        self.transport: Transport | None = None  # None: nothing new is taken
        self._writer = writer
        self._sessions = sessions
        self.stopping = stopping
        self._taking = 0
        self._usual = _USUAL
        self.in_hand = MailsInHand()
        self._ended = trio.Event()
        self._ended.set()
        self._clear()

    def _clear(self) -> None:
        self._outcomes: list[tuple[InHand, Booking | None]] = []
        self._outcome_came = Alarm()
        self._line = Line(self._sessions, self.room)
        self.in_hand.note_change()

    # -- for claiming children

    @property
    def free(self) -> int:
        """Return how many more jobs may be claimed."""
        return max(0, self.room - len(self.in_hand)) if self.transport else 0

    async def wait_room(self) -> int:
        """Wait until half of the room is free, and return how many jobs may be claimed.

        The other half keeps the sessions busy meanwhile, and a claim of many jobs costs little more than of one.
        """
        while self.free < self.room / 2:
            await self.in_hand.wait_change()
        return self.free

    @contextmanager
    def taking(self) -> Iterator[Transport | None]:
        """Allow the caller to claim and `add` jobs in the block; without a transport nothing new is taken."""
        self._taking += 1
        try:
            yield self.transport
        finally:
            self._taking -= 1
            self.in_hand.note_change()

    def add(self, claimed: Sequence[InHand]) -> None:
        """Put claimed jobs in line."""
        self.exchangers.note(held.domain for held in claimed)
        for held in claimed:
            self.in_hand.add(held)
            self._line.put(held)

    async def wait_ended(self) -> None:
        """Wait until nothing new is taken, and messages in hand are finished or abandoned."""
        await self._ended.wait()

    # -- the child

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send messages in line until the process is to end.

        At any end, including a restart by an operator, messages in hand are finished first: those being sent are sent
        and booked, those in line released; interrupted ones are claimed again when their leases expire.
        """
        self._ended = trio.Event()
        try:
            async with aclosing(self._open_transport()) as transport, trio.open_nursery() as nursery:
                work, broken = trio.CancelScope(shield=True), trio.Event()
                nursery.start_soon(self._work, transport, work, broken)
                self.transport = transport
                self.in_hand.note_change()
                task_status.started()
                try:
                    await self.stopping.wait()
                finally:
                    self.transport = None
                    await self._finish(broken)
                    work.cancel()
        finally:
            self.transport = None
            self.in_hand.forget(self.in_hand.list_all())
            self._clear()
            self._ended.set()

    async def _work(self, transport: Transport, scope: trio.CancelScope, broken: trio.Event) -> None:
        """Send, book and renew until the scope is cancelled; cancelling the child interrupts none of it."""
        with scope:
            async with trio.open_nursery() as nursery:
                for _ in range(self._sessions):
                    nursery.start_soon(self._send_mails, transport, nursery)
                nursery.start_soon(transport.tend)
                nursery.start_soon(self.exchangers.learn)
                if isinstance(transport, Router):
                    nursery.start_soon(share_routes, self.pool, transport)
                    nursery.start_soon(self._relieve, transport, nursery)
                nursery.start_soon(self._book_outcomes, broken)
                nursery.start_soon(keep_leases, self.pool, MAIL_JOBS, self.in_hand.list_all)
                nursery.start_soon(shed, self.pool, self.in_hand, self._line)

    async def _send_mails(self, transport: Transport, nursery: trio.Nursery) -> None:
        """Send messages in line one after the other; several of these tasks run concurrently."""
        while True:
            held = await self._line.take()
            try:
                await self._send(held, transport, nursery)
            finally:
                replaced = self._line.done(held)
            if replaced:
                return

    async def _relieve(self, transport: Router, nursery: trio.Nursery) -> None:
        """Replace the tasks of messages whose route does not answer: those behind them can take the next route."""
        while True:
            await trio.sleep(_RELIEVE_EVERY)
            for _ in range(self._line.set_aside()):
                nursery.start_soon(self._send_mails, transport, nursery)

    async def _send(self, held: InHand, transport: Transport, nursery: trio.Nursery) -> None:
        if not held.is_held():
            self._drop(held)
            return
        if held.turn is not None:
            nursery.start_soon(self._pretend, held, held.turn)  # it needs no session
            return
        job, email = held.job, held.letter.email
        # A mail has one line at `info`, its outcome. In `dev`, where people watch, it has this one, too.
        say = log.debug if self._writer.announcer is None else log.info
        say("mail sending", mail=str(job.id), recipient=mask_email(email), attempt=job.attempts)
        try:
            envelope = self._writer.write(held.letter, job.dated)
            begun = trio.current_time()
            outcome = await trace_sending(held, partial(_send_by, transport, envelope, held))
            self._usual += (trio.current_time() - begun - self._usual) / 8
        except UnusableAddressError as error:
            outcome = Bounced("recipient_invalid", "mail", str(error))
        except Exception:
            # A message that fails for a reason of our own must not delay the others.
            log.exception("mail failed", mail=str(held.job.id))
            self._note(held, retry_policy.put_off(held.job, "internal_error"))
            return
        self._settle(held, outcome)

    async def _pretend(self, held: InHand, turn: Turn) -> None:
        """Take as long as sending does, or as the message that has the turn, so that timing reveals nothing."""
        if not held.letter.silent:
            await trio.sleep(self._usual)
            while turn.mail_id in self.in_hand and held.is_held():
                await self.in_hand.wait_change()
        self._note(held, Held(held.job, turn.at, turn.mail_id, turn.bounce, turn.suppressed))

    def _settle(self, held: InHand, outcome: Outcome) -> None:
        """Translate the transport's outcome into a booking."""
        if isinstance(outcome, Aborted):
            self._drop(held)
            return
        held.outcome = outcome
        self._note(held, retry_policy.next_step(held.job, outcome, probing=held.probing))

    def _note(self, held: InHand, booking: Booking | None) -> None:
        """Queue an outcome for booking; None means a job that another worker has claimed or will claim."""
        self._outcomes.append((held, booking))
        self._outcome_came.sound()

    def _drop(self, held: InHand) -> None:
        MAILS.labels("lease_lost").inc()
        log.warning("mail lease lost", mail=str(held.job.id))
        self._note(held, None)

    async def _book_outcomes(self, broken: trio.Event) -> None:
        """Book outcomes as they come, batching those that arrive during a commit."""
        try:
            while True:
                await self._outcome_came.wait()
                batch, self._outcomes = self._outcomes, []
                await book(
                    self.pool,
                    self.secrets,
                    [(held, booking) for held, booking in batch if booking is not None],
                )
                for held, booking in batch:
                    if isinstance(booking, Sent):
                        self._writer.announce(held.letter)
                self.in_hand.forget([held for held, _ in batch])
        finally:
            broken.set()

    async def _finish(self, broken: trio.Event) -> None:
        """Release messages in line, and wait at most 15 s until those being sent are booked.

        Meanwhile nothing new is taken, and the end of the process or the restart of this child waits.
        """
        with trio.move_on_after(_FINISHING, shield=True):
            await wait_any(self._wait_finished, broken.wait)

    async def _wait_finished(self) -> None:
        while self._taking:
            await self.in_hand.wait_change()
        try:
            await release(
                self.pool, self.in_hand, self._line.take_all()
            )  # other workers may send them at once
        except DatabaseUnavailableError:
            log.warning("mails in line wait for their leases to run out")
        while self.in_hand:
            await self.in_hand.wait_change()


async def _send_by(transport: Transport, envelope: Envelope, held: InHand) -> Outcome:
    if isinstance(transport, Router):
        return await transport.send(envelope, before_dot=held.is_held, way=_way_of(held.job))
    return await transport.send(envelope, before_dot=held.is_held)


def _way_of(job: Job) -> Way:
    """Return the choice of routes that a mail has: for ten minutes the one that may have accepted it."""
    if job.route is None or job.unknown_for is None:
        return Way(attempt=job.attempts)
    if job.unknown_for < retry_policy.UNKNOWN_FOR:
        return Way(bound=job.route, attempt=job.attempts)
    return Way(avoid=job.route, attempt=job.attempts)
