"""The life of mails in simulated time: the real policy over a model of what PostgreSQL keeps.

Two days pass in milliseconds: timers are Trio's, whose clock jumps, and the wall clock is given. Nothing here waits for
a thread, a socket or a database. What `regsvc.mail.jobs` and `regsvc.mail.breaker` do in SQL the model does in Python;
`test_simulation.py` has both do the same things side by side before anything is concluded from it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import pairwise
from typing import Literal
from uuid import UUID, uuid4

import trio

from regsvc.mail.outcome import CONNECTION_REASONS, Accepted, Failure
from regsvc.mail.queue import breaker, jobs, retry_policy
from regsvc.mail.queue.bookings import Ended, Retry, Sent
from regsvc.mail.queue.breaker import Verdict, weigh
from regsvc.mail.queue.jobs import Job

Server = Callable[[datetime], Accepted | Failure]
State = Literal["queued", "sending", "sent", "delayed", "bounced", "cancelled", "dead"]

START = datetime(2026, 1, 1, tzinfo=UTC)
ROOM = 64
OPEN = frozenset({"queued", "sending", "delayed"})


def simulated_clock() -> datetime:
    """Return what time it is where Trio's clock began at midnight on New Year's Day."""
    return START + timedelta(seconds=trio.current_time())


@dataclass(eq=False)
class SimulatedMail:
    """A row of `mails`, and when it was tried."""

    created_at: datetime
    due_at: datetime
    changed_at: datetime
    id: UUID = field(default_factory=uuid4)
    state: State = "queued"
    attempts: int = 0
    reason: str | None = None
    tries: list[datetime] = field(default_factory=list)

    @property
    def sent_at(self) -> datetime:
        """When the server took it."""
        assert self.state == "sent", self
        return self.changed_at


class PostOffice:
    """The tables `mails` and `mail_breaker`, and one mailer.

    Args:
        now: the wall clock.
        rng: where jitter comes from.
    """

    def __init__(
        self, now: Callable[[], datetime] = simulated_clock, rng: random.Random | None = None
    ) -> None:
        self.now = now
        self.rng = rng or random.Random(1)
        self.mails: dict[UUID, SimulatedMail] = {}  # the one that was changed longest ago comes first
        self.open = False
        self.failures = 0
        self.reason: str | None = None
        self.reply: str | None = None
        self.probe_at: datetime | None = None
        self.tries: list[datetime] = []
        self.probes = 0
        self._clock: list[tuple[datetime, UUID]] = []  # a heap of when mails come due, or came
        self._woken = trio.Event()

    def set_due(self, mail: SimulatedMail, due_at: datetime) -> None:
        """Change when a mail comes due."""
        mail.due_at = due_at
        heappush(self._clock, (due_at, mail.id))

    def _set_changed(self, mail: SimulatedMail) -> None:
        mail.changed_at = self.now()
        self.mails[mail.id] = self.mails.pop(mail.id)

    def _next_due(self) -> SimulatedMail | None:
        while self._clock:
            due_at, mail_id = self._clock[0]
            mail = self.mails[mail_id]
            if mail.state in OPEN and mail.due_at == due_at:
                return mail
            heappop(self._clock)
        return None

    def add(self, mail_id: UUID | None = None) -> SimulatedMail:
        """As `jobs.add_job`."""
        now = self.now()
        mail = SimulatedMail(now, now, now, mail_id or uuid4())
        self.mails[mail.id] = mail
        self.set_due(mail, now)
        self._woken.set()
        return mail

    # -- as `regsvc.mail.jobs`

    def find_due(self) -> list[SimulatedMail]:
        """What `jobs.claim_due` would claim."""
        now, due = self.now(), list[SimulatedMail]()
        while len(due) < ROOM and (mail := self._next_due()) is not None and mail.due_at <= now:
            heappop(self._clock)
            due.append(mail)
        return due

    def claim(self, mails: Sequence[SimulatedMail]) -> list[Job]:
        """As every claim of `jobs`."""
        now = self.now()
        for mail in mails:
            mail.state, mail.attempts = "sending", mail.attempts + 1
            self.set_due(mail, now + jobs.LEASE)
            self._set_changed(mail)
        return [
            Job(mail.id, None, uuid4(), mail.attempts, now - mail.created_at >= jobs.GIVE_UP)
            for mail in mails
        ]

    def book(self, step: Sent | Retry | Ended, *, tried: bool = True) -> None:
        """As `bookings.book_sent`, `book_retries`, `hold_jobs` and `book_ended`."""
        mail = self.mails[step.job.id]
        self._set_changed(mail)
        match step:
            case Sent():
                mail.state = "sent"
            case Retry(after=after, reason=reason):
                mail.state, mail.reason = "delayed", reason
                mail.attempts -= not tried
                self.set_due(mail, self.now() + after)
            case Ended(state=state, reason=reason):
                mail.state, mail.reason = state, reason

    # -- as `regsvc.mail.breaker`

    def find_probes(self) -> list[SimulatedMail]:
        """Those that `breaker.claim_probe` would claim one of."""
        now, found = self.now(), list[SimulatedMail]()
        if self.probe_at is None or self.probe_at > now:
            return []
        self.probe_at = now + breaker.PROBE_EVERY
        for mail in self.mails.values():
            if found and mail.changed_at > found[0].changed_at:
                break
            if (mail.state in {"queued", "delayed"} and mail.due_at <= now) or self._waits(mail):
                found.append(mail)
        return found

    def _waits(self, mail: SimulatedMail) -> bool:
        reasons = breaker.SERVER_REASONS if self.open else CONNECTION_REASONS
        return (
            mail.state == "delayed" and mail.due_at > self.now() + breaker.SPREAD and mail.reason in reasons
        )

    def note(self, verdict: Verdict) -> list[SimulatedMail]:
        """As `breaker.note_verdict`; returns the mails that are due within a minute now."""
        released: list[SimulatedMail] = []
        if verdict.works and (self.open or self.failures):
            released = [mail for mail in self.mails.values() if self._waits(mail)]
            for mail in released:
                self.set_due(mail, self.now() + self.rng.random() * breaker.SPREAD)
            self.open, self.failures, self.reason, self.reply, self.probe_at = False, 0, None, None, None
        if verdict.weight:
            if not self.open:
                self.probe_at = self.now() + breaker.PROBE_EVERY
            self.failures += verdict.weight
            self.open = self.open or self.failures >= breaker.OPENS_AT
            self.reason, self.reply = verdict.reason, verdict.reply
        return released

    # -- as `regsvc.consumer`

    async def run_mailer(self, server: Server) -> None:
        """Send what is due, for ever."""
        while True:
            if probes := self.find_probes():
                self.probes += 1
                self._send(self.claim(probes[:1]), server, probing=True)
            taken = self.claim(self.find_due())
            if self.open:
                state = breaker.Breaker(
                    open=True, failures=self.failures, reason=self.reason, reply=self.reply, opened_at=None
                )
                for job in taken:
                    self.book(retry_policy.hold(job, state), tried=False)
            else:
                self._send(taken, server)
            if len(taken) < ROOM:
                await self._wait()

    def _send(self, taken: Sequence[Job], server: Server, *, probing: bool = False) -> None:
        outcomes = []
        for job in taken:
            self.tries.append(self.now())
            self.mails[job.id].tries.append(self.now())
            outcome = server(self.now())
            if not breaker.is_repetition(outcome, job.attempts):
                outcomes.append(outcome)
            self.book(retry_policy.next_step(job, outcome, probing=probing, rng=self.rng))
        self.note(weigh(outcomes))

    async def _wait(self) -> None:
        """Wait for the next mail that comes due, or a new one, or the time for a probe."""
        due, now = self._next_due(), self.now()
        moments = [moment for moment in (due.due_at if due else None, self.probe_at) if moment is not None]
        seconds = min(((moment - now).total_seconds() for moment in moments), default=float("inf"))
        with trio.move_on_after(max(seconds, 0.001)):
            await self._woken.wait()
        self._woken = trio.Event()


def make_outages(*outages: tuple[float, float], failure: Failure) -> Server:
    """Return a server that fails between these seconds from the start, and else accepts."""

    def serve(now: datetime) -> Accepted | Failure:
        seconds = (now - START).total_seconds()
        if any(begin <= seconds < end for begin, end in outages):
            return failure
        return Accepted("250 ok")

    return serve


def pauses(moments: Sequence[datetime]) -> Iterator[float]:
    """Yield the seconds between each moment and the next."""
    for earlier, later in pairwise(moments):
        yield (later - earlier).total_seconds()
