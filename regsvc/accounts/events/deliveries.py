"""Deliveries of events: one job for each event and sink.

An event waits for the earlier ones of its subject at the same sink. While one of them waits for its next attempt, its
followers wait with it. One that was given up, or is repeated, holds up no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.cursor import Page, cut_page, rows_to_read
from regsvc.jobs.claims import claim_selected
from regsvc.jobs.leases import ids_of, update_leased
from regsvc.jobs.table import JobTable
from regsvc.postgres.connection import Connection

State = Literal["queued", "sending", "delayed", "delivered", "dead", "cancelled"]

SCHEDULE: Final = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds between the attempts at a webhook, the first of which is made at once."""
_LOOKED_AT = 500  # due deliveries of a sink that are searched for some whose subject waits for nothing


@dataclass(frozen=True)
class Delivery:
    """A claimed delivery.

    Args:
        id: of the delivery.
        lease: proves the claim.
        attempts: attempts, including this one.
        sink_id: where it goes.
        subject: the registration or user.
        n: place in the order.
        event: the row of the event.
        trace: the span of the request that it tells of, as stored; None if that was not traced.
    """

    id: UUID
    lease: UUID
    attempts: int
    sink_id: UUID
    subject: UUID
    n: int
    event: dict[str, Any]
    trace: bytes | None = None


DELIVERIES: Final = JobTable(
    "event_deliveries",
    Delivery,
    "id, lease, attempts, sink_id, subject, n, (SELECT to_jsonb(e) FROM events e WHERE e.id = event_id) AS event,"
    " trace_context AS trace",
    "event_due",
)
"""The deliveries, as `regsvc.jobs` needs to know them."""


@dataclass(frozen=True)
class Shown:
    """A delivery as administrators see it.

    Args:
        id: of the delivery.
        n: place in the order of all events.
        event: id of the event, the same in every attempt.
        type: of the event.
        subject: the registration or user.
        state: what became of it.
        attempts: number of attempts.
        status: of the last answer.
        reason: why the last attempt failed.
        at: when the event happened.
        changed_at: when the delivery changed last.
        due_at: the next attempt.
    """

    id: UUID
    n: int
    event: UUID
    type: str
    subject: UUID
    state: State
    attempts: int
    status: int | None
    reason: str | None
    at: datetime
    changed_at: datetime
    due_at: datetime | None

    @property
    def replayable(self) -> bool:
        """Whether it may be repeated: it has ended, or waits for its next attempt."""
        return self.state not in {"queued", "sending"}


def delay_after(attempts: int) -> timedelta | None:
    """Return the time until the next attempt at a webhook, or None after the last: 5 s, 5 min, 30 min, 2 h … 24 h."""
    return timedelta(seconds=SCHEDULE[attempts - 1]) if attempts <= len(SCHEDULE) else None


async def claim_deliveries(conn: Connection, room: dict[UUID, int]) -> list[Delivery]:
    """Claim due deliveries, in their order, at most so many for each sink."""
    claimed = await claim_selected(
        conn,
        DELIVERIES,
        """
        SELECT found.id
          FROM unnest(%(sinks)s::uuid[], %(room)s::integer[]) AS s (id, room)
         CROSS JOIN LATERAL (
            SELECT d.id
              FROM (SELECT id, sink_id, subject, n, due_at, replayed_at FROM {table}
                     WHERE {open} AND sink_id = s.id AND due_at <= now()
                     ORDER BY due_at LIMIT %(looked_at)s) AS due
              JOIN {table} d ON d.id = due.id AND d.state IN ('queued', 'sending', 'delayed') AND d.due_at <= now()
             WHERE due.replayed_at IS NOT NULL
                OR NOT EXISTS (SELECT FROM {table} e
                                WHERE e.state IN ('queued', 'sending', 'delayed') AND e.sink_id = due.sink_id
                                  AND e.subject = due.subject AND e.n < due.n AND e.replayed_at IS NULL)
             ORDER BY due.due_at, due.n LIMIT s.room
               FOR UPDATE OF d SKIP LOCKED) AS found
        """,
        sinks=list(room),
        room=list(room.values()),
        looked_at=_LOOKED_AT,
    )
    if len(claimed) < sum(room.values()):
        await _hold_back(conn, list(room))
    return sorted(claimed, key=lambda each: each.n)


async def _hold_back(conn: Connection, sinks: Sequence[UUID]) -> None:
    """Make what waits behind an attempt to come due no sooner than that, or it would stand before other subjects.

    Only behind a repeated or delayed attempt: what became of it frees its followers.
    """
    await conn.execute(
        """
        UPDATE event_deliveries f SET due_at = held.until
          FROM (SELECT d.id, head.due_at AS until
                  FROM unnest(%(sinks)s::uuid[]) AS s (id)
                 CROSS JOIN LATERAL (
                    SELECT id, sink_id, subject, n FROM event_deliveries
                     WHERE state IN ('queued', 'sending', 'delayed') AND sink_id = s.id AND due_at <= now()
                       AND replayed_at IS NULL
                     ORDER BY due_at LIMIT %(looked_at)s) AS due
                 CROSS JOIN LATERAL (
                    SELECT due_at, state, attempts FROM event_deliveries
                     WHERE state IN ('queued', 'sending', 'delayed') AND sink_id = due.sink_id
                       AND subject = due.subject AND n < due.n AND replayed_at IS NULL
                     ORDER BY n LIMIT 1) AS head
                  JOIN event_deliveries d ON d.id = due.id AND d.state = 'queued'
                 WHERE head.due_at > now() AND (head.state = 'delayed' OR head.attempts > 1)
                   FOR UPDATE OF d SKIP LOCKED) AS held
         WHERE f.id = held.id
        """,
        {"sinks": list(sinks), "looked_at": _LOOKED_AT},
    )


async def book_delivered(
    conn: Connection, deliveries: Sequence[Delivery], status: int | None = None
) -> set[UUID]:
    """Record deliveries as taken, and let what waited for them go; return those whose lease was still held."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            update_leased(
                DELIVERIES, "state = 'delivered', due_at = NULL, reason = NULL, status = %(status)s"
            ),
            {"status": status, **ids_of(deliveries)},
        )
        booked = set(await cursor.fetchall())
    await _free_followers(conn, [each for each in deliveries if each.attempts > 1])
    return booked


async def book_failed(
    conn: Connection, delivery: Delivery, reason: str, status: int | None, after: timedelta | None
) -> None:
    """Record a failed attempt, in a transaction: the next one comes later, and its followers come behind it.

    Args:
        conn: in a transaction.
        delivery: the claimed delivery.
        reason: why it failed.
        status: of the answer, if there was one.
        after: time until the next attempt; None gives it up, and its followers go on.
    """
    cursor = await conn.execute(
        update_leased(
            DELIVERIES,
            "state = CASE WHEN %(after)s::interval IS NULL THEN 'dead' ELSE 'delayed' END,"
            " due_at = now() + %(after)s::interval, reason = %(reason)s, status = %(status)s",
        ),
        {"after": after, "reason": reason, "status": status, **ids_of([delivery])},
    )
    if cursor.rowcount == 0:
        return
    if after is None:
        await _free_followers(conn, [delivery])
        return
    await conn.execute(
        """
        UPDATE event_deliveries f SET due_at = d.due_at
          FROM event_deliveries d
         WHERE d.id = %(id)s AND d.replayed_at IS NULL AND f.sink_id = d.sink_id AND f.subject = d.subject
           AND f.n > d.n AND f.state = 'queued' AND f.due_at < d.due_at
        """,
        {"id": delivery.id},
    )


async def _free_followers(conn: Connection, deliveries: Sequence[Delivery]) -> None:
    if not deliveries:
        return
    await conn.execute(
        """
        UPDATE event_deliveries f SET due_at = now()
          FROM unnest(%(sinks)s::uuid[], %(subjects)s::uuid[], %(places)s::bigint[]) AS d (sink_id, subject, n)
         WHERE f.sink_id = d.sink_id AND f.subject = d.subject AND f.n > d.n AND f.state = 'queued' AND f.due_at > now()
        """,
        {
            "sinks": [each.sink_id for each in deliveries],
            "subjects": [each.subject for each in deliveries],
            "places": [each.n for each in deliveries],
        },
    )


async def find_email(conn: Connection, event: dict[str, Any]) -> str | None:
    """Return the present address of the registration or user that an event is about; None if there is none."""
    table = {"user": "users", "registration": "registrations"}.get(event["subject_kind"])
    if table is None:
        return None
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"SELECT email FROM {table} WHERE id = %(id)s",  # noqa: S608 - one of two names
            {"id": event["subject"]},
        )
        return await cursor.fetchone() or None


async def list_deliveries(
    conn: Connection, sink_id: UUID, *, dead: bool = False, after: int | None = None, limit: int
) -> Page[Shown]:
    """Return a page of the deliveries to a sink, the newest events first.

    Args:
        conn: connection to read with.
        sink_id: the sink.
        dead: only those that were given up.
        after: place in the order before the page; None for the newest.
        limit: rows.
    """
    async with conn.cursor(row_factory=class_row(Shown)) as cursor:
        await cursor.execute(
            f"""
            SELECT d.id, d.n, d.event_id AS event, e.type, d.subject, d.state, d.attempts, d.status, d.reason, e.at,
                   d.changed_at, d.due_at
              FROM event_deliveries d JOIN events e ON e.id = d.event_id
             WHERE d.sink_id = %(sink)s {"AND d.state = 'dead'" if dead else ""}
                   {"AND d.n < %(after)s" if after else ""}
             ORDER BY d.n DESC LIMIT %(limit)s
            """,  # noqa: S608 - constants
            {"sink": sink_id, "after": after, "limit": rows_to_read(limit)},
        )
        found = await cursor.fetchall()
    return cut_page(found, limit, lambda row: str(row.n))


async def get_outcome(conn: Connection, delivery_id: UUID) -> tuple[State, int | None, str | None] | None:
    """Return state, last status and last reason of a delivery."""
    cursor = await conn.execute(
        "SELECT state, status, reason FROM event_deliveries WHERE id = %(id)s", {"id": delivery_id}
    )
    return await cursor.fetchone()
