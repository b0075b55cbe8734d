"""The books of a stage: what was promised, what is stored, what arrived, and whether these agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from tests.faults.inbox import Delivery, Inbox
from tests.faults.load import Load

Query = Callable[..., Awaitable[list[tuple[Any, ...]]]]


@dataclass
class Entry:
    """One fault's line.

    Args:
        tag: what its sign-ups' addresses begin with.
        name: of the fault.
        rounds: how often it struck.
        missed: how often it was waited for and did not come about.
        ended: when it was over, by Trio's clock.
        answered: sign-ups that were told 201.
        mailed: those of them whose mail was accepted.
        bounced: mails that the mail server refused for good.
        lost: 201s without a row, and rows without a mail.
        doubled: deliveries of a mail after its first.
        allowed: mails that it caught between acceptance and booking.
        recovery: seconds from its end until the last of its mails was accepted.
        longest: seconds that anybody waited for a mail.
    """

    tag: str
    name: str
    rounds: int = 0
    missed: int = 0
    ended: float = 0.0
    answered: int = 0
    mailed: int = 0
    bounced: int = 0
    lost: int = 0
    doubled: int = 0
    allowed: int = 0
    recovery: float = 0.0
    longest: float = 0.0


@dataclass
class Ledger:
    """Keeps the books.

    Args:
        inbox: what the mail servers accepted.
        load: who was told what.
        windows: for each mail, the faults that came between its acceptance and the commit that books it.
        failures: what went wrong besides mail, in words.
        violations: what `close` found.
    """

    inbox: Inbox
    load: Load
    entries: list[Entry] = field(default_factory=list)
    windows: dict[str, list[str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    query: Query = field(init=False)

    def begin(self, name: str) -> Entry:
        """Open a fault's line; whoever signs up from now on is its."""
        entry = Entry(f"f{len(self.entries) + 1}", name, ended=trio.current_time())
        self.entries.append(entry)
        self.load.tag = entry.tag
        return entry

    async def note_cut(self, tag: str, mail_ids: Sequence[str]) -> None:
        """Note which of these accepted mails are not booked: each may be delivered once more.

        One that failed just now has been delivered once more already, and booked, before this looks.
        """
        unbooked = await self.query(
            "SELECT id::text FROM mails m WHERE id = ANY(%s::uuid[]) AND (state <> 'sent' OR EXISTS ("
            "SELECT FROM mail_attempts a WHERE a.mail_id = m.id AND a.tried_at > now() - interval '10 seconds'))",
            list(mail_ids),
        )
        for (mail_id,) in unbooked:
            self.windows.setdefault(mail_id, []).append(tag)

    async def close(self) -> None:
        """Compare everything; call it when nothing is left to be done."""
        entries = {entry.tag: entry for entry in self.entries}
        for entry in self.entries:
            entry.answered = entry.mailed = entry.bounced = entry.lost = entry.doubled = entry.allowed = 0
            entry.recovery = entry.longest = 0.0
        self.violations.clear()
        delivered = self.inbox.by_mail()
        rows = await self.query(
            "SELECT r.id::text, r.email, m.id::text, m.state, m.attempts"
            " FROM registrations r LEFT JOIN mails m ON m.registration_id = r.id"
        )
        answered = {s.registration_id: s for s in self.load.outcomes if s.registration_id is not None}
        for sign_up in answered.values():
            if sign_up.tag in entries:
                entries[sign_up.tag].answered += 1
        self._check_rows(rows, answered.keys(), entries, delivered)
        for registration_id in answered.keys() - {row[0] for row in rows}:
            entries[answered[registration_id].tag].lost += 1
            self.violations.append(f"201 without a row: {answered[registration_id].address}")
        known = {row[2] for row in rows}
        self.violations += [
            f"a mail without a row: {mail_id}" for mail_id in delivered if mail_id not in known
        ]
        self._check_doubles({row[2]: _tag(row[1]) for row in rows}, delivered, entries)

    def _check_rows(
        self,
        rows: Iterable[tuple[Any, ...]],
        answered: Iterable[str],
        entries: dict[str, Entry],
        delivered: dict[str, list[Delivery]],
    ) -> None:
        """Every committed registration has its mail, whether its 201 arrived or not."""
        told = set(answered)
        sent_at = {outcome.address: outcome.at for outcome in self.load.outcomes}
        for registration_id, address, mail_id, state, attempts in rows:
            entry = entries.get(_tag(address))
            if entry is None:
                continue
            if deliveries := delivered.get(mail_id):
                entry.mailed += registration_id in told
                first = deliveries[0].at
                entry.recovery = max(entry.recovery, first - entry.ended)
                entry.longest = max(entry.longest, first - sent_at.get(address, first))
            elif state == "bounced":
                entry.bounced += 1
            else:
                entry.lost += 1
                self.violations.append(
                    f"lost in {entry.name!r}: {address} is {state} after {attempts} attempts"
                )
            if deliveries and state != "sent":
                self.violations.append(f"delivered in {entry.name!r}, but {state}: {address}")

    def _check_doubles(
        self, tags: dict[str, str], delivered: dict[str, list[Delivery]], entries: dict[str, Entry]
    ) -> None:
        for tag, count in Counter(tag for tags in self.windows.values() for tag in tags).items():
            if tag in entries:
                entries[tag].allowed += count
        for mail_id, deliveries in delivered.items():
            causes = self.windows.get(mail_id, [])
            for number in range(len(deliveries) - 1):
                explained = number < len(causes)
                tag = causes[number] if explained else tags.get(mail_id, "")
                if tag in entries:
                    entries[tag].doubled += 1
                if not explained:
                    times = ", ".join(f"{d.seat}/{d.life} at {d.at:.1f}" for d in deliveries)
                    name = entries[tag].name if tag in entries else tag
                    self.violations.append(f"doubled in {name!r} for no reason: {mail_id} by {times}")
            if len({(d.read().token, d.read().code) for d in deliveries}) > 1:
                self.violations.append(f"link or code differ between the copies of {mail_id}")


def _tag(address: str) -> str:
    return address.partition(".")[0]


def print_table(entries: Iterable[Entry]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| fault | rounds | 201s | mailed | bounced | lost | doubled | may double | recovered in | longest wait |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    total = Entry("", "**all**")
    for entry in entries:
        lines.append(_line(entry))
        for name in ("rounds", "answered", "mailed", "bounced", "lost", "doubled", "allowed"):
            setattr(total, name, getattr(total, name) + getattr(entry, name))
        total.recovery = max(total.recovery, entry.recovery)
        total.longest = max(total.longest, entry.longest)
    return "\n".join([*lines, _line(total)])


def _line(entry: Entry) -> str:
    missed = f" (+{entry.missed} missed)" if entry.missed else ""
    return (
        f"| {entry.name} | {entry.rounds}{missed} | {entry.answered} | {entry.mailed} | {entry.bounced} |"
        f" {entry.lost} | {entry.doubled} | {entry.allowed} | {entry.recovery:.1f} s | {entry.longest:.1f} s |"
    )
