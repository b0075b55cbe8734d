"""Writing down what became of mails, many in one transaction, and telling the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
import trio

from regsvc.accounts.registrations import mail_status
from regsvc.consumer.letters import AnyLetter
from regsvc.errors import DatabaseUnavailableError
from regsvc.mail.outcome import Outcome
from regsvc.mail.queue import bookings, breaker
from regsvc.mail.queue.bookings import Ended, Held, Retry, Sent
from regsvc.mail.queue.breaker import Verdict, is_repetition
from regsvc.mail.queue.jobs import Job
from regsvc.metrics import MAILS
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool

log = structlog.get_logger()

Booking = Sent | Retry | Held | Ended

_LIMIT = 10.0  # seconds that one try to commit may take
_PAUSE = 0.5  # seconds until the next try while the database is away


@dataclass(eq=False)
class InHand:
    """A job of ours, with what it says and until when it is ours.

    Args:
        job: the claimed job.
        letter: whom it goes to.
        held_until: by Trio's clock; the margin is off already.
        turn_at: when its address's turn is, if that has not come.
        probing: it finds out whether the mail server is back.
        outcome: what the transport said, once it did.
    """

    job: Job
    letter: AnyLetter
    held_until: float
    turn_at: datetime | None = None
    probing: bool = False
    outcome: Outcome | None = None

    def is_held(self) -> bool:
        """Say whether the mail may still be sent."""
        return trio.current_time() < self.held_until


async def book(pool: Pool, batch: Sequence[tuple[InHand, Booking]]) -> None:
    """Commit outcomes, as long as it takes: what a server accepted must not be forgotten for a restart."""
    if not batch:
        return
    said = [(held.outcome, held.job.attempts) for held, _ in batch if held.outcome is not None]
    verdict = breaker.weigh([outcome for outcome, attempt in said if not is_repetition(outcome, attempt)])
    while True:
        try:
            async with pool.transaction(limit=_LIMIT) as conn:
                await _write(conn, batch)
                opened = await breaker.note_verdict(conn, verdict)
        except DatabaseUnavailableError:
            log.warning("mail outcomes wait for the database", outcomes=len(batch))
            await trio.sleep(_PAUSE)
        else:
            break
    for held, booking in batch:
        _report(held, booking)
    _report_breaker(verdict, opened=opened)


async def _write(conn: Connection, batch: Sequence[tuple[InHand, Booking]]) -> None:
    sent = [(booking, held.letter.sent_as) for held, booking in batch if isinstance(booking, Sent)]
    waiting = [(booking, held.letter.silent) for held, booking in batch if isinstance(booking, Held)]
    retries = [booking for _, booking in batch if isinstance(booking, Retry)]
    ended = [booking for _, booking in batch if isinstance(booking, Ended)]
    if sent:
        await mail_status.show_sent(conn, await bookings.book_sent(conn, sent))
    if waiting:
        # What waits for its turn is shown as sent, before its row becomes silent.
        await mail_status.show_sent(conn, [booking.job.id for booking, silent in waiting if not silent])
        await bookings.book_held(conn, [booking for booking, _ in waiting])
    if retries:
        await mail_status.show_delayed(conn, await bookings.book_retries(conn, retries))
    if ended:
        await mail_status.show_bounced(conn, await bookings.book_ended(conn, ended))


def _report_breaker(verdict: Verdict, *, opened: bool | None) -> None:
    if opened:
        log.error("mail breaker opened: sending is paused", reason=verdict.reason, reply=verdict.reply)
    elif opened is False:
        log.info("mail breaker closed: what waited is sent within a minute")


def _report(held: InHand, booking: Booking) -> None:
    """Tell the log what became of a mail."""
    letter = held.letter
    fields = {"mail": str(held.job.id), "recipient": letter.email, "attempt": held.job.attempts}
    match booking:
        case Sent(reply=reply):
            MAILS.labels("sent").inc()
            log.info("mail accepted", **fields, reply=reply)
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
