"""The radar: how many people confirm soon after their mail was accepted, by receiver family, and whether that is usual.

A receiver that takes our mail and hides it reports nothing. What is left is that people do not confirm: each
family is compared with itself before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from psycopg.rows import class_row

from regsvc.accounts.deliveries.families import find_family
from regsvc.accounts.registrations.registration import LINK_LIFE
from regsvc.postgres.connection import Connection

SOON: Final = timedelta(minutes=10)
"""Time from acceptance in which most of those who confirm at all do."""
RECENT: Final = 40  # newest mails of a family, compared with those before
LEAST_RECENT: Final = 20
LEAST_BEFORE: Final = 50
SAMPLE: Final = 1_000  # newest sign-ups looked at
_OUT: Final = 3.0  # standard deviations below the usual share that leave the band
_BACK: Final = 1.5  # and that are in it again
_LEAST_VARIANCE: Final = 0.05  # a family where all confirm has a band, too


@dataclass(frozen=True)
class Echo:
    """How a receiver family fares.

    Args:
        family: google, microsoft, yahoo, apple or other.
        recent: number of its newest mails that were compared.
        recent_confirmed: of those, whose reader confirmed soon.
        before: number of mails before them.
        before_confirmed: of those likewise.
        median: seconds from acceptance to confirmation, if any was confirmed.
        astray: whether the recent share is out of the family's own band.
    """

    family: str
    recent: int
    recent_confirmed: int
    before: int
    before_confirmed: int
    median: float | None
    astray: bool

    @property
    def recent_share(self) -> float:
        """Return the share of recent mails that were confirmed soon."""
        return self.recent_confirmed / self.recent if self.recent else 0.0

    @property
    def usual_share(self) -> float:
        """Return the share of the mails before."""
        return self.before_confirmed / self.before if self.before else 0.0


def is_astray(recent: Sequence[bool], before: Sequence[bool], *, was: bool) -> bool:
    """Return whether a family's newest mails are confirmed less often than its own earlier ones, beyond chance.

    Args:
        recent: whether each of the newest mails was confirmed soon.
        before: likewise for those before.
        was: whether the family was astray before; it is back only well within its band.
    """
    if len(recent) < LEAST_RECENT or len(before) < LEAST_BEFORE:
        return False
    usual = sum(before) / len(before)
    deviation = math.sqrt(max(usual * (1 - usual), _LEAST_VARIANCE) / len(recent))
    return sum(recent) / len(recent) < usual - (_BACK if was else _OUT) * deviation


async def refresh_radar(conn: Connection) -> list[Echo]:
    """Look at the newest settled sign-ups, store how each family fares, and return those that left or re-entered.

    Several processes do this; each change is returned to one of them.
    """
    cursor = await conn.execute(
        """
        SELECT email, state = 'confirmed' AND changed_at <= accepted_at + %(soon)s,
               CASE WHEN state = 'confirmed' THEN extract(epoch FROM changed_at - accepted_at)::float8 END
          FROM (SELECT email, state, changed_at, created_at, expires_at - %(life)s AS accepted_at
                  FROM registrations
                 WHERE login_key IS NULL AND created_at <= now() - %(soon)s
                   AND created_at > now() - interval '7 days'
                 ORDER BY created_at DESC LIMIT %(sample)s) AS newest
         WHERE accepted_at <= now() - %(soon)s
         ORDER BY created_at DESC
        """,
        {"soon": SOON, "life": LINK_LIFE, "sample": SAMPLE},
    )
    heard: dict[str, list[tuple[bool, float | None]]] = {}
    for email, soon, seconds in await cursor.fetchall():
        heard.setdefault(find_family(email), []).append((bool(soon), seconds))
    was = {echo.family: echo.astray for echo in await list_echoes(conn)}
    echoes = [_sum_up(family, mails, was=was.get(family, False)) for family, mails in sorted(heard.items())]
    return [echo for echo in echoes if await _store(conn, echo, was=was.get(echo.family, False))]


async def list_echoes(conn: Connection) -> list[Echo]:
    """Return how the families fare, by name."""
    async with conn.cursor(row_factory=class_row(Echo)) as cursor:
        await cursor.execute(
            "SELECT family, recent, recent_confirmed, before, before_confirmed, median, astray"
            " FROM confirmation_radar ORDER BY family"
        )
        return await cursor.fetchall()


def _sum_up(family: str, mails: Sequence[tuple[bool, float | None]], *, was: bool) -> Echo:
    recent = [soon for soon, _ in mails[:RECENT]]
    before = [soon for soon, _ in mails[RECENT:]]
    seconds = sorted(max(each, 0.0) for _, each in mails if each is not None)
    median = seconds[len(seconds) // 2] if seconds else None
    astray = is_astray(recent, before, was=was)
    return Echo(family, len(recent), sum(recent), len(before), sum(before), median, astray)


async def _store(conn: Connection, echo: Echo, *, was: bool) -> bool:
    """Store a family's figures, and return whether this call changed whether it is astray."""
    await conn.execute(
        """
        INSERT INTO confirmation_radar AS r
               (family, recent, recent_confirmed, before, before_confirmed, median, astray)
        VALUES (%(family)s, %(recent)s, %(recent_confirmed)s, %(before)s, %(before_confirmed)s, %(median)s, false)
            ON CONFLICT (family) DO UPDATE
           SET recent = excluded.recent, recent_confirmed = excluded.recent_confirmed, before = excluded.before,
               before_confirmed = excluded.before_confirmed, median = excluded.median, refreshed_at = now()
        """,
        vars(echo),
    )
    if echo.astray == was:
        return False
    cursor = await conn.execute(
        "UPDATE confirmation_radar SET astray = %(astray)s, changed_at = now()"
        " WHERE family = %(family)s AND astray IS DISTINCT FROM %(astray)s",
        {"family": echo.family, "astray": echo.astray},
    )
    return cursor.rowcount == 1
