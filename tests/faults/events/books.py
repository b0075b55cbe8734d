"""The books of events: what was committed, what each endpoint was brought, and whether these agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

Query = Callable[..., Awaitable[list[tuple[Any, ...]]]]
EXCHANGE, WEBHOOK = "exchange", "webhook"


@dataclass(frozen=True)
class Arrival:
    """One time that an endpoint was brought an event.

    Args:
        endpoint: `EXCHANGE` or `WEBHOOK`.
        event_id: as the message or the header of the request says.
        body: the event itself.
        taken: whether the sender was told so: by a confirm before it arrived here, or a 2xx.
        at: when, by Trio's clock.
    """

    endpoint: str
    event_id: str
    body: bytes
    taken: bool
    at: float


@dataclass
class Entry:
    """One fault's line.

    Args:
        name: of the fault.
        began: when it began, by Trio's clock.
        first: the place of the first event that happened since.
        rounds: how often it struck.
        missed: how often it was waited for and did not come about.
        ended: when it was over.
        events: events that happened meanwhile.
        exchange: how often the consumer of the exchange was brought one of them.
        webhook: how often the receiver of the webhook was.
        lost: how many of them an endpoint was never brought.
        recovery: seconds from the end of the fault until the last of them was there.
    """

    name: str
    began: float
    first: int
    rounds: int = 0
    missed: int = 0
    ended: float = 0.0
    events: int = 0
    exchange: int = 0
    webhook: int = 0
    lost: int = 0
    recovery: float = 0.0


@dataclass
class Books:
    """Keeps the books.

    Args:
        arrivals: in the order in which they came.
        brought_again: events that the broker lost with a queue after it had confirmed them, and that an operator has
            repeated: what is repeated has no place in the order.
        changes: how often each user was changed.
        wrong: what went wrong besides, in words.
        entries: the lines of the table.
    """

    arrivals: list[Arrival] = field(default_factory=list)
    brought_again: set[str] = field(default_factory=set)
    changes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    _come: set[tuple[str, str]] = field(default_factory=set)

    def note(self, endpoint: str, event_id: str, body: bytes, *, taken: bool = True) -> None:
        """Note an arrival."""
        self._come.add((endpoint, event_id))
        self.arrivals.append(Arrival(endpoint, event_id, body, taken, trio.current_time()))

    def has_come(self, endpoint: str, event_id: str) -> bool:
        """Return whether an endpoint was brought an event before."""
        return (endpoint, event_id) in self._come

    async def judge(self, query: Query) -> list[str]:
        """Compare everything and return what is wrong; call it when nothing is left to be done."""
        events = {
            str(id_): (n, f"{kind}/{subject}", type_)
            for id_, n, kind, subject, type_ in await query(
                "SELECT id, n, subject_kind, subject, type FROM events"
            )
        }
        return [
            *self.wrong,
            *await self._judge_outbox(query, events),
            *self._judge_ids(events),
            *self._judge_order(events, EXCHANGE),
            *self._judge_order(events, WEBHOOK),
            *self._judge_losses(events),
        ]

    async def _judge_outbox(self, query: Query, events: dict[str, tuple[int, str, str]]) -> list[str]:
        """Everything that was committed has its event."""
        told = Counter((subject, type_) for _, subject, type_ in events.values())
        wrong = [
            f"registration {id_} without its first event"
            for (id_,) in await query("SELECT id FROM registrations")
            if told[f"registration/{id_}", "registration.created"] != 1
        ]
        for user, changes in self.changes.items():
            if told[f"user/{user}", "user.updated"] != changes:
                wrong.append(f"user {user}: {changes} changes, {told[f'user/{user}', 'user.updated']} events")
        wrong += [
            f"a delivery is {state} after {attempts} attempts: {id_}"
            for id_, state, attempts in await query(
                "SELECT id, state, attempts FROM event_deliveries WHERE state <> 'delivered' LIMIT 20"
            )
        ]
        return wrong

    def _judge_ids(self, events: dict[str, tuple[int, str, str]]) -> list[str]:
        """An event has one id and says the same whenever it comes."""
        wrong = []
        bodies: dict[str, bytes] = {}
        for arrival in self.arrivals:
            if arrival.event_id not in events:
                wrong.append(f"an id that no event has at the {arrival.endpoint}: {arrival.event_id}")
                continue
            if bodies.setdefault(arrival.event_id, arrival.body) != arrival.body:
                wrong.append(f"an event says another thing when it is repeated: {arrival.event_id}")
            told = json.loads(arrival.body)
            _, subject, type_ = events[arrival.event_id]
            if (told["id"], told["subject"], told["type"]) != (arrival.event_id, subject, type_):
                wrong.append(f"an event says another thing than its row: {arrival.event_id}")
        return wrong

    def _judge_order(self, events: dict[str, tuple[int, str, str]], endpoint: str) -> list[str]:
        """What comes to an endpoint for the first time comes in the order of its subject."""
        wrong, seen, latest = [], set[str](), dict[str, int]()
        for arrival in self.arrivals:
            if arrival.endpoint != endpoint or arrival.event_id in seen or arrival.event_id not in events:
                continue
            seen.add(arrival.event_id)
            if endpoint == EXCHANGE and arrival.event_id in self.brought_again:
                continue
            n, subject, _ = events[arrival.event_id]
            if n < latest.get(subject, 0):
                wrong.append(
                    f"out of order at the {endpoint}: event {n} of {subject} after {latest[subject]}"
                )
            latest[subject] = max(n, latest.get(subject, 0))
        return wrong

    def _judge_losses(self, events: dict[str, tuple[int, str, str]]) -> list[str]:
        wrong = []
        for entry in self.entries:
            entry.events = entry.exchange = entry.webhook = entry.lost = 0
        for endpoint in (EXCHANGE, WEBHOOK):
            came: dict[str, list[float]] = {}
            for arrival in self.arrivals:
                if arrival.endpoint == endpoint and arrival.taken:
                    came.setdefault(arrival.event_id, []).append(arrival.at)
            for event_id, (n, subject, type_) in events.items():
                times = came.get(event_id, [])
                if (line := self._find_entry(n)) is not None:
                    line.events += endpoint == EXCHANGE
                    line.lost += not times
                    setattr(line, endpoint, getattr(line, endpoint) + len(times))
                    if times and event_id not in self.brought_again:
                        line.recovery = max(line.recovery, times[0] - line.ended)
                if not times:
                    wrong.append(f"lost at the {endpoint}: {type_} {n} of {subject}")
        return wrong

    def _find_entry(self, n: int) -> Entry | None:
        return next((entry for entry in reversed(self.entries) if entry.first <= n), None)

    def table(self) -> str:
        """Return the table in Markdown; judge first."""
        lines = [
            "| fault | rounds | events | at the exchange | at the webhook | lost | recovered in |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        total = Entry("**all**", 0, 0)
        for entry in self.entries:
            lines.append(_line(entry))
            for name in ("rounds", "missed", "events", "exchange", "webhook", "lost"):
                setattr(total, name, getattr(total, name) + getattr(entry, name))
            total.recovery = max(total.recovery, entry.recovery)
        return "\n".join([*lines, _line(total)])


def _line(entry: Entry) -> str:
    missed = f" (+{entry.missed} missed)" if entry.missed else ""
    return (
        f"| {entry.name} | {entry.rounds}{missed} | {entry.events} | {entry.exchange} | {entry.webhook} |"
        f" {entry.lost} | {max(entry.recovery, 0):.1f} s |"
    )
