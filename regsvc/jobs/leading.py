"""Leadership: one process runs what one is enough for, under a lease that it renews.

A child stands for its chore while it can do it, so a process whose child is broken holds no lease. A leader that is
stuck stops by its own clock before its lease is free for others. One that died is followed within `LIFE` and a second.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

import structlog
import trio

from regsvc.metrics import LEADS
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.waiting import Alarm, lease_time

log = structlog.get_logger()

LIFE: Final = timedelta(seconds=15)
"""The time for which a lease is held, unless it is renewed."""
RENEW_EVERY: Final = 5.0
"""Seconds between renewals."""
TRUSTED: Final = LIFE.total_seconds() - 3.0
"""Seconds from a renewal in which a process acts as the leader."""
SELDOM: Final = 10.0
"""Seconds between looks of a process that does not lead, in case the leader is stuck."""
_SOONEST = 1.0  # seconds between looks at another process's lease
_SPREAD = 1.0  # seconds by which processes look at different times


class Lead:
    """The leadership of one chore, as its child in this process sees it."""

    def __init__(self, chore: str, woken: Alarm) -> None:
        self.chore = chore
        self.standing = False
        self.until = -math.inf
        """End of the lease by `lease_time`."""
        self._woken = woken
        self._won = trio.Event()

    @property
    def ours(self) -> bool:
        """Whether this process leads: runs the chore, which the others leave to it."""
        return self.standing and lease_time() < self.until

    @contextmanager
    def stand(self) -> Iterator[None]:
        """Stand for the chore as long as the block lasts."""
        self.standing = True
        self._woken.sound()
        try:
            yield
        finally:
            self.standing = False
            self._woken.sound()

    def pace(self, seconds: float, *, seldom: float = SELDOM) -> float:
        """Return the seconds between two looks: `seconds` of the leader, `seldom` of the others."""
        return seconds if self.ours else max(seconds, seldom)

    async def wait_won(self) -> None:
        """Wait until this process leads."""
        while not self.ours:
            await self._won.wait()

    async def wait_turn(self) -> None:
        """Wait until this process begins to lead: for ever while it does."""
        if self.ours:
            await trio.sleep_forever()
        await self.wait_won()

    def note(self, until: float) -> None:
        """Note the end of the lease by `lease_time`: 0 or less if another process holds it."""
        self.until = until
        if self.ours:
            self._won.set()
            self._won = trio.Event()


class AlwaysLead(Lead):
    """The leadership of a process that is alone."""

    def __init__(self) -> None:
        super().__init__("", Alarm())

    @property
    def ours(self) -> bool:
        """Whether this process leads: always."""
        return True


class Leadership:
    """The leases of one process.

    Args:
        holder: name of the process in the table; no other has it.
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self._leads: dict[str, Lead] = {}
        self._woken = Alarm()
        self._told: set[str] = set()

    def of(self, chore: str) -> Lead:
        """Return the leadership of a chore."""
        if chore not in self._leads:
            lead = self._leads[chore] = Lead(chore, self._woken)
            LEADS.labels(chore).set_function(lambda: lead.ours)
        return self._leads[chore]

    @property
    def led(self) -> list[str]:
        """The chores that this process leads."""
        return sorted(lead.chore for lead in self._leads.values() if lead.ours)

    async def wait_woken(self) -> None:
        """Wait until a child begins or ends to stand."""
        await self._woken.wait()

    async def renew(self, pool: Pool) -> float:
        """Renew, take or give up leases, as the children stand, and return the seconds until that is due again.

        Raises:
            DatabaseUnavailableError: the database is unavailable; leases that are held end by themselves.
        """
        left = [
            lead.chore for lead in self._leads.values() if not lead.standing and lead.until > lease_time()
        ]
        if left:
            async with pool.connection() as conn:
                await leave_leases(conn, self.holder, left)
            for chore in left:
                self._leads[chore].note(-math.inf)
        standing = [lead.chore for lead in self._leads.values() if lead.standing]
        others: list[float] = []
        if standing:
            asked_at = lease_time()
            async with pool.connection() as conn:
                taken = await take_leases(conn, self.holder, standing)
            for chore in standing:
                seconds = taken.get(chore, 0.0)
                self._leads[chore].note(asked_at + TRUSTED if seconds is None else -math.inf)
                if seconds is not None:
                    others.append(seconds)
        self._tell()
        soonest = max(_SOONEST, min(others, default=math.inf)) + random.uniform(0, _SPREAD)  # noqa: S311 - no secret
        return min(soonest, RENEW_EVERY if self.led else math.inf)

    async def leave(self, pool: Pool) -> None:
        """Give up all leases, so that another process need not wait for their end."""
        held = [lead.chore for lead in self._leads.values() if lead.until > lease_time()]
        for chore in held:
            self._leads[chore].note(-math.inf)
        self._tell()
        if held:
            async with pool.connection() as conn:
                await leave_leases(conn, self.holder, held)

    def _tell(self) -> None:
        """Log what this process leads now, and leads no more."""
        now = set(self.led)
        if gained := sorted(now - self._told):
            log.info("chores led", chores=gained)
        if lost := sorted(self._told - now):
            log.info("chores no longer led", chores=lost)
        self._told = now


async def take_leases(conn: Connection, holder: str, chores: Sequence[str]) -> dict[str, float | None]:
    """Take or renew what is free or held by this holder; return for each chore None, or the seconds until it is free.

    A row that another transaction holds is passed by, and counts as free at once.
    """
    cursor = await conn.execute(
        """
        WITH taken AS (
            UPDATE leaderships l
               SET holder = %(holder)s, until = now() + %(life)s,
                   since = CASE WHEN l.holder = %(holder)s THEN l.since ELSE now() END
             WHERE chore IN (SELECT chore FROM leaderships
                              WHERE chore = ANY(%(chores)s) AND (holder = %(holder)s OR until <= now())
                              ORDER BY chore FOR UPDATE SKIP LOCKED)
            RETURNING chore
        ), made AS (
            INSERT INTO leaderships (chore, holder, until)
            SELECT wanted.chore, %(holder)s, now() + %(life)s FROM unnest(%(chores)s::text[]) AS wanted (chore)
             WHERE NOT EXISTS (SELECT FROM leaderships l WHERE l.chore = wanted.chore)
            ON CONFLICT (chore) DO NOTHING
            RETURNING chore)
        SELECT chore, NULL FROM (TABLE taken UNION ALL TABLE made) AS ours
        UNION ALL
        SELECT chore, greatest(extract(epoch FROM until - now())::float8, 0) FROM leaderships
         WHERE chore = ANY(%(chores)s) AND chore NOT IN (SELECT chore FROM taken)
        """,
        {"holder": holder, "life": LIFE, "chores": list(chores)},
    )
    return dict(await cursor.fetchall())


async def leave_leases(conn: Connection, holder: str, chores: Sequence[str]) -> None:
    """Give up leases of this holder; one that another transaction holds ends by itself."""
    await conn.execute(
        """
        UPDATE leaderships SET until = now()
         WHERE chore IN (SELECT chore FROM leaderships
                          WHERE chore = ANY(%(chores)s) AND holder = %(holder)s
                          ORDER BY chore FOR UPDATE SKIP LOCKED)
        """,
        {"holder": holder, "chores": list(chores)},
    )
