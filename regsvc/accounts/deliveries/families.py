"""Receiver families: how mails to the large mail services fare, from a sample of recent ones.

`delivered_at` is shown for a family only while nearly all of its mails are reported. Otherwise its presence would tell
an attempt whose mail was sent from one whose mail was not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from psycopg.rows import class_row

from regsvc.mail.queue import families
from regsvc.postgres.connection import Connection

ENOUGH: Final = 0.95  # of the mails of a family must be reported
FEWEST: Final = 20  # mails from which a family is judged by itself; with fewer, by all families together
SETTLED: Final = timedelta(minutes=10)  # after which a mail without a report counts as not reported
SAMPLE: Final = 200  # newest mails looked at
KEPT: Final = 50  # delays kept per family
ALL: Final = "all"
_USUAL: Final = 4.0  # seconds assumed before any delay was measured


def find_family(email: str) -> str:
    """Return the receiver family of an address by its domain: google, microsoft, yahoo, apple or other."""
    return families.find_family(email.rpartition("@")[2])


@dataclass(frozen=True)
class Family:
    """How the mails of a family fare.

    Args:
        family: its name.
        mails: settled mails in the sample.
        reported: those of them that were reported as delivered or bounced.
        delays: seconds from acceptance to the report of delivery, some recent ones.
        bounce_delays: seconds from acceptance to the report of a bounce.
    """

    family: str
    mails: int
    reported: int
    delays: list[float]
    bounce_delays: list[float]

    @property
    def shows_deliveries(self) -> bool:
        """Return whether `delivered_at` is shown for its mails."""
        return self.mails >= FEWEST and self.reported >= ENOUGH * self.mails

    def usual_delay(self, *, bounced: bool = False) -> float:
        """Return seconds that a report of this family usually takes, drawn from recent ones."""
        delays = (self.bounce_delays if bounced else self.delays) or self.delays or self.bounce_delays
        return random.choice(delays) if delays else _USUAL  # noqa: S311 - no secret


async def get_family(conn: Connection, email: str) -> Family:
    """Return how the family of an address fares; all families together while it has few mails."""
    name = find_family(email)
    async with conn.cursor(row_factory=class_row(Family)) as cursor:
        await cursor.execute(
            """
            SELECT family, mails, reported, delays, bounce_delays FROM receiver_families
             WHERE family = ANY(%(names)s)
            """,
            {"names": [name, ALL]},
        )
        found = {family.family: family for family in await cursor.fetchall()}
    own = found.get(name)
    if own is not None and own.mails >= FEWEST:
        return own
    return found.get(ALL) or own or Family(name, 0, 0, [], [])


async def refresh_families(conn: Connection) -> None:
    """Recompute all families from the newest settled mails of the last day."""
    cursor = await conn.execute(
        """
        SELECT coalesce(m.email, (SELECT r.email FROM registrations r WHERE r.id = m.registration_id)),
               extract(epoch FROM m.reported_at - m.sent_at)::float8, m.report
          FROM mails m
         WHERE m.created_at > now() - interval '1 day' AND m.created_at <= now() - %(settled)s
           AND m.sent_at <= now() - %(settled)s
         ORDER BY m.created_at DESC, m.id DESC LIMIT %(sample)s
        """,
        {"settled": SETTLED, "sample": SAMPLE},
    )
    counted: dict[str, Family] = {}
    for email, delay, report in await cursor.fetchall():
        if email is None:
            continue
        for name in (find_family(email), ALL):
            known = counted.get(name) or Family(name, 0, 0, [], [])
            delivered, bounced = report == "delivered", report in {"bounced", "failed"}
            counted[name] = Family(
                name,
                known.mails + 1,
                known.reported + (delivered or bounced),
                [*known.delays, *([max(delay, 0.0)] if delivered else [])][-KEPT:],
                [*known.bounce_delays, *([max(delay, 0.0)] if bounced else [])][-KEPT:],
            )
    names = sorted(counted)
    await conn.execute(
        """
        INSERT INTO receiver_families (family, mails, reported, delays, bounce_delays)
        SELECT family, mails, reported, delays::float8[], bounce_delays::float8[]
          FROM unnest(%(names)s::text[], %(mails)s::int[], %(reported)s::int[], %(delays)s::text[],
                      %(bounce_delays)s::text[]) AS f (family, mails, reported, delays, bounce_delays)
        ON CONFLICT (family) DO UPDATE
           SET mails = excluded.mails, reported = excluded.reported, delays = excluded.delays,
               bounce_delays = excluded.bounce_delays, refreshed_at = now()
        """,
        {
            "names": names,
            "mails": [counted[name].mails for name in names],
            "reported": [counted[name].reported for name in names],
            "delays": [_array(counted[name].delays) for name in names],
            "bounce_delays": [_array(counted[name].bounce_delays) for name in names],
        },
    )


def _array(numbers: list[float]) -> str:
    return "{" + ",".join(map(repr, numbers)) + "}"


async def find_usual(conn: Connection, email: str) -> float | None:
    """Return seconds within which nine of ten mails to the family of an address are delivered, if enough are known."""
    family = await get_family(conn, email)
    if family.mails < FEWEST or len(family.delays) < FEWEST:
        return None
    delays = sorted(family.delays)
    return delays[len(delays) * 9 // 10]
