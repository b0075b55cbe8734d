"""The last day in figures, for whoever runs the service: how many sign-ups, what became of them, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from psycopg.rows import class_row, tuple_row

from regsvc.postgres.connection import Connection

# Seconds from sign-up to acceptance at which the bars of the plot begin.
BOUNDS: tuple[float, ...] = (0, 1, 2, 5, 10, 30, 60, 300, 900, 3600)


@dataclass(frozen=True)
class Totals:
    """Sign-ups of the last 24 hours, by what has become of them.

    Args:
        signed_up: all of them.
        confirmed: their address is.
        waiting: their mail is on its way, or was accepted and nobody confirmed yet.
        delayed: their mail waits for its next try.
        bounced: their mail cannot be delivered.
        ended: expired or voided.
    """

    signed_up: int
    confirmed: int
    waiting: int
    delayed: int
    bounced: int
    ended: int


@dataclass(frozen=True)
class Queue:
    """Mails that are not at their end, and those that were given up.

    Args:
        queued: due, or on their way through the broker.
        sending: in somebody's hands.
        delayed: waiting for their next try.
        dead: given up; an operator may replay them.
        oldest: when the oldest open one was asked for.
    """

    queued: int
    sending: int
    delayed: int
    dead: int
    oldest: datetime | None


@dataclass(frozen=True)
class Hour:
    """One hour: when it began, its sign-ups, and how many of those are confirmed."""

    began_at: datetime
    signed_up: int
    confirmed: int


@dataclass(frozen=True)
class Speed:
    """How long mails took from sign-up to acceptance, in the last 24 hours.

    Args:
        counts: how many took from each of `BOUNDS` to the next; the last has no end.
        median: seconds; None without any mail.
        p95: seconds within which 95 of 100 were accepted.
    """

    counts: Sequence[int]
    median: float | None
    p95: float | None


async def count_registrations(conn: Connection) -> Totals:
    """Return what became of the sign-ups of the last 24 hours."""
    async with conn.cursor(row_factory=class_row(Totals)) as cursor:
        await cursor.execute(
            """
            SELECT count(*) AS signed_up,
                   count(*) FILTER (WHERE state = 'confirmed') AS confirmed,
                   count(*) FILTER (WHERE state IN ('queued', 'sending', 'sent')) AS waiting,
                   count(*) FILTER (WHERE state = 'delayed') AS delayed,
                   count(*) FILTER (WHERE state = 'bounced') AS bounced,
                   count(*) FILTER (WHERE state IN ('expired', 'repudiated')) AS ended
              FROM registrations
             WHERE created_at > now() - interval '24 hours'
            """
        )
        found = await cursor.fetchone()
        assert found is not None  # noqa: S101 - an aggregate has a row
        return found


async def count_mails(conn: Connection) -> Queue:
    """Return how many mails are open or given up."""
    async with conn.cursor(row_factory=class_row(Queue)) as cursor:
        await cursor.execute(
            """
            SELECT count(*) FILTER (WHERE state = 'queued') AS queued,
                   count(*) FILTER (WHERE state = 'sending') AS sending,
                   count(*) FILTER (WHERE state = 'delayed') AS delayed,
                   (SELECT count(*) FROM mails WHERE state = 'dead') AS dead,
                   min(created_at) AS oldest
              FROM mails
             WHERE state IN ('queued', 'sending', 'delayed')
            """
        )
        found = await cursor.fetchone()
        assert found is not None  # noqa: S101 - an aggregate has a row
        return found


async def list_hours(conn: Connection) -> list[Hour]:
    """Return the last 24 hours, the oldest first, those without sign-ups too."""
    async with conn.cursor(row_factory=class_row(Hour)) as cursor:
        await cursor.execute(
            """
            SELECT h AS began_at, count(r.id) AS signed_up,
                   count(r.id) FILTER (WHERE r.state = 'confirmed') AS confirmed
              FROM generate_series(date_trunc('hour', now()) - interval '23 hours', date_trunc('hour', now()),
                                   interval '1 hour') AS h
              LEFT JOIN registrations r ON r.created_at >= h AND r.created_at < h + interval '1 hour'
             GROUP BY h ORDER BY h
            """
        )
        return await cursor.fetchall()


async def measure_speed(conn: Connection) -> Speed:
    """Return how long the mails of the last 24 hours took."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            """
            WITH took AS (
                SELECT extract(epoch FROM m.sent_at - r.created_at)::float AS seconds
                  FROM mails m
                  JOIN registrations r ON r.id = m.registration_id
                 WHERE m.created_at > now() - interval '24 hours' AND m.kind = 'signup' AND m.state = 'sent'
            )
            SELECT width_bucket(seconds, %(bounds)s::float[]), count(*), NULL, NULL FROM took GROUP BY 1
             UNION ALL
            SELECT NULL, NULL, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds),
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) FROM took
            """,
            {"bounds": list(BOUNDS)},
        )
        rows = await cursor.fetchall()
    counts = {bucket: count for bucket, count, _, _ in rows if bucket is not None}
    median, p95 = next((median, p95) for bucket, _, median, p95 in rows if bucket is None)
    return Speed([counts.get(number, 0) for number in range(1, len(BOUNDS) + 1)], median, p95)


def name_bounds() -> list[str]:
    """Return what each bar of the plot is called."""
    return [*(f"{_say(low)}-{_say(high)}" for low, high in pairwise(BOUNDS)), f"over {_say(BOUNDS[-1])}"]


def _say(seconds: float) -> str:
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min"
