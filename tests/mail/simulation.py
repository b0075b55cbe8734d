"""The life of mails in simulated time: the real policy over a model of what PostgreSQL keeps.

Two days pass in milliseconds: timers are Trio's, whose clock jumps, and the wall clock is given. Nothing here waits for
a thread, a socket or a database. What `regsvc.mail.queue` does in SQL the model does in Python;
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

from regsvc.jobs.table import LEASE
from regsvc.mail.outcome import Accepted, Failure
from regsvc.mail.queue import breaker, retry_policy
from regsvc.mail.queue.bookings import Ended, Retry, Sent
from regsvc.mail.queue.jobs import Job
from regsvc.mail.queue.verdict import AWAY, UNKNOWN, Evidence, is_alike, judge, refused_domains

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
    waits: int | None = None
    refused: bool = False
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
        self.state = UNKNOWN
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

    # -- as `regsvc.mail.queue.jobs`

    def find_due(self) -> list[SimulatedMail]:
        """What `breaker.claim_next` would claim once the minute after a recovery is over."""
        now, due = self.now(), list[SimulatedMail]()
        while len(due) < ROOM and (mail := self._next_due()) is not None and mail.due_at <= now:
            heappop(self._clock)
            due.append(mail)
        if not self.state.open:
            due += [mail for mail in self.mails.values() if self._is_released(mail) and mail not in due]
        return due[:ROOM]

    def _is_released(self, mail: SimulatedMail) -> bool:
        since = self.state.recovered if mail.reason in AWAY else self.state.closed
        return mail.state == "delayed" and mail.waits is not None and mail.waits < since

    def claim(self, mails: Sequence[SimulatedMail]) -> list[Job]:
        """As every claim of `jobs`."""
        now = self.now()
        for mail in mails:
            mail.state, mail.attempts, mail.waits = "sending", mail.attempts + 1, None
            self.set_due(mail, now + LEASE)
            self._set_changed(mail)
        return [Job(mail.id, None, uuid4(), mail.attempts, now - mail.created_at) for mail in mails]

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
                mail.waits = self.state.recovered if step.waits or not tried else None
                mail.refused = mail.refused or (tried and step.refused)
                self.set_due(mail, self.now() + after)
            case Ended(state=state, reason=reason):
                mail.state, mail.reason = state, reason

    # -- as `regsvc.mail.queue.breaker`

    def find_probes(self) -> list[SimulatedMail]:
        """Those that `breaker.claim_probe` would claim one of, if it is time for one."""
        now = self.now()
        if self.probe_at is None or self.probe_at > now:
            return []
        self.probe_at = now + breaker.PROBE_EVERY
        waiting = [mail for mail in self.mails.values() if self._waits(mail, now)]
        never = [mail for mail in waiting if not mail.refused]
        if self.state.open and refused_domains(self.state) and never:  # here no two mails share a domain
            newest = max(mail.changed_at for mail in never)
            return [mail for mail in never if mail.changed_at == newest]
        if never:
            return _touched_first(never)
        due = [
            mail
            for mail in self.mails.values()
            if mail.state in {"queued", "delayed"} and mail.due_at <= now and not mail.refused
        ]
        if due:
            first = min(mail.due_at for mail in due)
            return [mail for mail in due if mail.due_at == first]
        return _touched_first([mail for mail in waiting if mail.refused])

    def _waits(self, mail: SimulatedMail, now: datetime) -> bool:
        if mail.state != "delayed" or mail.waits is None or mail.due_at <= now:
            return False
        return self.state.open or (mail.due_at > now + breaker.PROBE_EVERY and mail.reason in AWAY)

    def note(self, evidence: Sequence[Evidence]) -> None:
        """As `breaker.note_outcomes`."""
        before, self.state = self.state, judge(self.state, evidence)
        if self.state == before:
            return
        if not self.state.open and not self.state.failures:
            self.probe_at = None
        elif not (before.open and self.state.open):
            self.probe_at = self.now() + breaker.PROBE_EVERY

    # -- as `regsvc.consumer`

    async def run_mailer(self, server: Server) -> None:
        """Send what is due, for ever."""
        while True:
            if probes := self.find_probes():
                self.probes += 1
                self._send(self.claim(probes[:1]), server, probing=True)
            taken = self.claim(self.find_due())
            if self.state.open:
                for job in taken:
                    self.book(retry_policy.hold(job, self.state), tried=False)
            else:
                self._send(taken, server)
            if len(taken) < ROOM:
                await self._wait()

    def _send(self, taken: Sequence[Job], server: Server, *, probing: bool = False) -> None:
        evidence = []
        for job in taken:
            self.tries.append(self.now())
            self.mails[job.id].tries.append(self.now())
            evidence.append(Evidence(server(self.now()), f"{job.id}@{job.id}.example", job.attempts))
        self.settle(taken, evidence, probing=probing)

    def settle(self, taken: Sequence[Job], evidence: Sequence[Evidence], *, probing: bool) -> None:
        """As `regsvc.consumer.sending.outcomes`: book what came of mails, then let the breaker know."""
        judged = judge(self.state, evidence)
        for job, each in zip(taken, evidence, strict=True):
            assert isinstance(each.outcome, Accepted | Failure)
            alike = is_alike(judged, each)
            self.book(retry_policy.next_step(job, each.outcome, probing=probing, alike=alike, rng=self.rng))
        self.note(evidence)

    async def _wait(self) -> None:
        """Wait for the next mail that comes due, or a new one, or the time for a probe."""
        due, now = self._next_due(), self.now()
        if not self.state.open and any(self._is_released(mail) for mail in self.mails.values()):
            return
        moments = [moment for moment in (due.due_at if due else None, self.probe_at) if moment is not None]
        seconds = min(((moment - now).total_seconds() for moment in moments), default=float("inf"))
        with trio.move_on_after(max(seconds, 0.001)):
            await self._woken.wait()
        self._woken = trio.Event()


def _touched_first(mails: Sequence[SimulatedMail]) -> list[SimulatedMail]:
    first = min((mail.changed_at for mail in mails), default=None)
    return [mail for mail in mails if mail.changed_at == first]


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
