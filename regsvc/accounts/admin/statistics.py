"""Statistics of the last 24 hours for operators: sign-ups, their outcomes and delivery times.

The cost is bounded. Up to `MOST_READ` sign-ups are all counted. Of more, a sample is read: those in one short window of
every minute. Rare states are counted in full. Viewers share the result: see `regsvc.accounts.admin.shared_overview`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import get_args

from psycopg.rows import scalar_row, tuple_row

from regsvc.accounts.admin.mail_search import Kind
from regsvc.accounts.registrations import registration
from regsvc.postgres.connection import Connection

# Lower bounds of the plot's bars, in seconds from sign-up to acceptance.
BOUNDS: tuple[float, ...] = (0, 1, 2, 5, 10, 30, 60, 300, 900, 3600)


MOST_READ = 20_000  # sign-ups, about
MOST_COUNTED = 20_000  # messages or sign-ups per state


@dataclass(frozen=True)
class Totals:
    """Sign-ups of the last 24 hours by state.

    Args:
        signed_up: all sign-ups.
        confirmed: address confirmed.
        waiting: message queued, being sent or accepted; address not confirmed.
        delayed: message waits for its next attempt.
        bounced: message cannot be delivered.
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
    """Open and dead messages.

    Args:
        queued: due, or in the broker.
        sending: claimed by a worker.
        delayed: waiting for the next attempt.
        dead: given up; an operator may replay them.
        oldest: when the oldest open message was requested.

    At most `MOST_COUNTED` messages per state are counted.
    """

    queued: int
    sending: int
    delayed: int
    dead: int
    oldest: datetime | None


@dataclass(frozen=True)
class Hour:
    """One hour: its start, its sign-ups, and how many of them are confirmed."""

    began_at: datetime
    signed_up: int
    confirmed: int


@dataclass(frozen=True)
class Speed:
    """Time from sign-up to acceptance of messages in the last 24 hours.

    Args:
        counts: messages between each of `BOUNDS` and the next; the last has no upper bound.
        median: seconds; None without messages.
        p95: 95th percentile in seconds.
    """

    counts: Sequence[int]
    median: float | None
    p95: float | None


@dataclass(frozen=True)
class Overview:
    """Statistics of the last 24 hours.

    Args:
        totals: sign-ups by state.
        queue: open and dead messages.
        hours: 24 hours, oldest first.
        speed: delivery times.
        share: fraction of sign-ups read; below 1 the figures are estimates.
    """

    totals: Totals
    queue: Queue
    hours: Sequence[Hour]
    speed: Speed
    share: float


async def make_overview(conn: Connection) -> Overview:
    """Compute the statistics of the last 24 hours."""
    share = await _choose_share(conn)
    counts = await _count_signups(conn, share)
    by_state: Counter[str] = Counter()
    by_hour: defaultdict[datetime, Counter[str]] = defaultdict(Counter)
    for hour, state, count in counts:
        by_state[state] += count
        by_hour[hour][state] += count
    if share < 1:
        rare = await _count_states(conn)
        by_state = Counter(
            {
                state: count if count < MOST_COUNTED else max(count, round(by_state[state] / share))
                for state, count in rare.items()
            }
        )
    return Overview(
        Totals(
            signed_up=by_state.total(),
            confirmed=by_state["confirmed"],
            waiting=by_state["queued"] + by_state["sending"] + by_state["sent"],
            delayed=by_state["delayed"],
            bounced=by_state["bounced"],
            ended=by_state["expired"] + by_state["repudiated"],
        ),
        await _count_mails(conn),
        [
            Hour(
                began,
                round(by_hour[began].total() / share),
                round(by_hour[began]["confirmed"] / share),
            )
            for began in await _list_hours(conn)
        ],
        await _measure_speed(conn, share),
        share,
    )


# Sampling windows: one in each of the last 1440 minutes, its length by the share, at a varying second.
# With a share of 1 they cover the whole day without gaps or overlaps.
_WINDOWS = """
    SELECT now() - interval '24 hours' + make_interval(secs => 60 * n)
           + make_interval(secs => 60 * (1 - %(share)s) * (n * 0.6180339887 - floor(n * 0.6180339887))) AS begins
      FROM generate_series(0, 1439) AS n
"""
_SEEN = f"""
    SELECT r.id, r.state, r.created_at
      FROM ({_WINDOWS}) AS w
     CROSS JOIN LATERAL (
        SELECT id, state, created_at FROM registrations
         WHERE login_key IS NULL AND created_at >= w.begins
           AND created_at < w.begins + make_interval(secs => 60 * %(share)s)
         LIMIT {MOST_READ}) AS r
     LIMIT {2 * MOST_READ}
"""  # noqa: S608 - constants


async def _choose_share(conn: Connection) -> float:
    """Return the fraction of the day's sign-ups to read: all of a usual day, about `MOST_READ` of a busy one."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            SELECT count(*) FROM (SELECT FROM registrations
                                   WHERE login_key IS NULL AND created_at > now() - interval '24 hours'
                                   LIMIT %(most)s + 1) AS r
            """,
            {"most": MOST_READ},
        )
        if (await cursor.fetchone() or 0) <= MOST_READ:
            return 1.0
        thin = 1 / 60
        await cursor.execute(f"SELECT count(*) FROM ({_SEEN}) AS seen", {"share": thin})  # noqa: S608
        estimate = max(MOST_READ, (await cursor.fetchone() or 0) / thin)
    return float(MOST_READ / estimate)


async def _count_signups(conn: Connection, share: float) -> Sequence[tuple[datetime, str, int]]:
    """Return the sampled sign-ups counted by hour and state."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"SELECT date_trunc('hour', created_at), state, count(*) FROM ({_SEEN}) AS seen GROUP BY 1, 2",  # noqa: S608
            {"share": share},
        )
        return await cursor.fetchall()


async def _count_states(conn: Connection) -> dict[str, int]:
    """Return the number of sign-ups of the last 24 hours by state, up to `MOST_COUNTED` each."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            """
            SELECT s.state, c.found
              FROM unnest(%(states)s::text[]) AS s (state)
             CROSS JOIN LATERAL (
                SELECT count(*) AS found
                  FROM (SELECT FROM registrations
                         WHERE state = s.state AND login_key IS NULL AND created_at > now() - interval '24 hours'
                         LIMIT %(most)s) AS r) AS c
            """,
            {"states": list(get_args(registration.State)), "most": MOST_COUNTED},
        )
        return dict(await cursor.fetchall())


async def _count_mails(conn: Connection) -> Queue:
    """Return the numbers of open and dead messages."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            """
            SELECT s.state, c.found, o.oldest
              FROM unnest(ARRAY['queued', 'sending', 'delayed', 'dead']) AS s (state)
             CROSS JOIN LATERAL (
                SELECT count(*) AS found
                  FROM (SELECT FROM unnest(%(kinds)s::text[]) AS k (kind)
                         CROSS JOIN LATERAL (SELECT FROM mails WHERE kind = k.kind AND state = s.state
                                              LIMIT %(most)s) AS m
                         LIMIT %(most)s) AS m) AS c
             CROSS JOIN LATERAL (
                SELECT min(m.created_at) AS oldest
                  FROM unnest(%(kinds)s::text[]) AS k (kind)
                 CROSS JOIN LATERAL (SELECT created_at FROM mails WHERE kind = k.kind AND state = s.state
                                      ORDER BY created_at, id LIMIT 1) AS m) AS o
            """,
            {"kinds": list(get_args(Kind)), "most": MOST_COUNTED},
        )
        found = {state: (count, oldest) for state, count, oldest in await cursor.fetchall()}
    opened = [oldest for state, (_, oldest) in found.items() if state != "dead" and oldest is not None]
    return Queue(
        queued=found["queued"][0],
        sending=found["sending"][0],
        delayed=found["delayed"][0],
        dead=found["dead"][0],
        oldest=min(opened, default=None),
    )


async def _list_hours(conn: Connection) -> list[datetime]:
    """Return the starts of the last 24 hours, including the current one, by the database's clock."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            SELECT generate_series(date_trunc('hour', now()) - interval '23 hours', date_trunc('hour', now()),
                                   interval '1 hour')
            """
        )
        return await cursor.fetchall()


async def _measure_speed(conn: Connection, share: float) -> Speed:
    """Return the delivery times of the sampled sign-ups' messages."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"""
            WITH took AS MATERIALIZED (
                SELECT extract(epoch FROM m.sent_at - seen.created_at)::float8 AS seconds
                  FROM ({_SEEN}) AS seen
                  JOIN mails m ON m.registration_id = seen.id AND m.kind = 'signup' AND m.state = 'sent'
            )
            SELECT width_bucket(seconds, %(bounds)s::float[]), count(*), NULL, NULL FROM took GROUP BY 1
             UNION ALL
            SELECT NULL, NULL, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds),
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds) FROM took
            """,  # noqa: S608 - a constant of this module
            {"bounds": list(BOUNDS), "share": share},
        )
        rows = await cursor.fetchall()
    counts = {bucket: round(count / share) for bucket, count, _, _ in rows if bucket is not None}
    median, p95 = next((median, p95) for bucket, _, median, p95 in rows if bucket is None)
    return Speed([counts.get(number, 0) for number in range(1, len(BOUNDS) + 1)], median, p95)


def name_bounds() -> list[str]:
    """Return the labels of the plot's bars."""
    return [*(f"{_say(low)}-{_say(high)}" for low, high in pairwise(BOUNDS)), f"over {_say(BOUNDS[-1])}"]


def _say(seconds: float) -> str:
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min"
