"""Mails in hand: claimed under a lease, not yet recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import trio

from regsvc.accounts.limits.mail_schedule import Turn
from regsvc.accounts.mails.turns import AnyLetter
from regsvc.accounts.registrations.mail_status import Letter
from regsvc.mail.outcome import Outcome
from regsvc.mail.queue.families import family_key
from regsvc.mail.queue.jobs import Job
from regsvc.mail.queue.verdict import Evidence
from regsvc.tracing.trace_context import TraceContext
from regsvc.waiting import lease_time

OnBooked = Callable[[Collection[UUID]], None]


@dataclass(eq=False)
class InHand:
    """A claimed job with its letter and lease.

    Args:
        job: the claimed job.
        letter: recipient and contents.
        held_until: end of the lease by its clock, margin deducted.
        turn: next turn of its address, if another message has the present one.
        probing: whether it probes the mail server.
        outcome: result of the transport, once known.
        testing: whether it tests a family of receivers that throttled.
        find_key: returns the key of a domain's family.
        published: the span that published its id, if that was recorded.
        trace_id: of the trace of the last attempt; None if it is not traced.
    """

    job: Job
    letter: AnyLetter
    held_until: float
    turn: Turn | None = None
    probing: bool = False
    outcome: Outcome | None = None
    testing: bool = False
    find_key: Callable[[str], str] = family_key
    published: TraceContext | None = None
    trace_id: str | None = None

    @property
    def family(self) -> str:
        """Return the key of its receivers' family."""
        return self.find_key(self.domain)

    @property
    def domain(self) -> str:
        """Return the recipient's domain."""
        return self.letter.email.rpartition("@")[2].lower()

    @property
    def evidence(self) -> Evidence | None:
        """Return what its outcome says about the server, once there is one."""
        if self.outcome is None or getattr(self.outcome, "elsewhere", False):
            return None  # or what it says concerns one of several routes
        return Evidence(self.outcome, self.letter.email, self.job.attempts)

    @property
    def is_shown(self) -> bool:
        """Return whether a registration shows its outcome."""
        return isinstance(self.letter, Letter) and not self.letter.silent

    def is_held(self) -> bool:
        """Return whether the lease is held, so that the message may be sent."""
        return lease_time() < self.held_until


class MailsInHand:
    """All mails that the courier has in hand, by id."""

    def __init__(self) -> None:
        self._mails: dict[UUID, InHand] = {}
        self._on_booked: OnBooked | None = None
        self._changed = trio.Event()  # set and replaced at every change

    def __len__(self) -> int:
        return len(self._mails)

    def __contains__(self, mail_id: object) -> bool:
        return mail_id in self._mails

    def list_all(self) -> list[InHand]:
        """Return every mail in hand."""
        return list(self._mails.values())

    def add(self, held: InHand) -> None:
        """Take a claimed mail in hand."""
        self._mails[held.job.id] = held

    def forget(self, done: Sequence[InHand]) -> None:
        """Drop mails that are finished, released or lost, and report their ids to the claiming child."""
        for held in done:
            if self._mails.get(held.job.id) is held:
                del self._mails[held.job.id]
        if self._on_booked is not None:
            self._on_booked([held.job.id for held in done])
        self.note_change()

    @contextmanager
    def telling(self, on_booked: OnBooked) -> Iterator[None]:
        """Call a function with the ids of finished mails after each commit, within the block."""
        self._on_booked = on_booked
        try:
            yield
        finally:
            self._on_booked = None

    def note_change(self) -> None:
        """Wake every task that waits for a change."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_change(self) -> None:
        """Wait until a mail is finished, or until what may be claimed changes otherwise."""
        await self._changed.wait()
