"""Repeat events, and delete those past retention."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.accounts.events.deliveries import DELIVERIES
from regsvc.accounts.events.sinks import KEEP
from regsvc.accounts.events.types import TEST_TYPE
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection

BATCH = 1000
_AGAIN = """
    state = 'queued', due_at = now(), attempts = 0, replayed_at = now(), changed_at = now()"""


class DeliveryNotFoundError(RegsvcError):
    """There is no such delivery that could be repeated."""

    code = "delivery_not_found"


async def replay_delivery(conn: Connection, sink_id: UUID, delivery_id: UUID) -> None:
    """Repeat one delivery that has ended, or waits for its next attempt.

    Raises:
        DeliveryNotFoundError: there is none, or it is under way.
    """
    cursor = await conn.execute(
        f"""
        WITH again AS (
            UPDATE event_deliveries SET {_AGAIN}
             WHERE id = %(id)s AND sink_id = %(sink)s AND state IN ('delayed', 'delivered', 'dead', 'cancelled')
            RETURNING id)
        SELECT pg_notify(%(channel)s, '') FROM again
        """,  # noqa: S608 - a constant
        {"id": delivery_id, "sink": sink_id, "channel": DELIVERIES.channel},
    )
    if cursor.rowcount == 0:
        raise DeliveryNotFoundError


async def replay_since(
    conn: Connection, sink_id: UUID, since: datetime, after: tuple[datetime, UUID] | None = None
) -> tuple[int, tuple[datetime, UUID] | None]:
    """Repeat a batch of the events since a time to a sink, also those from before it was there.

    Args:
        conn: for the statement, which is a transaction by itself.
        sink_id: where they go.
        since: time of the first event.
        after: position returned for the batch before.

    Returns: the number of events, and the position to go on from; None after the last.
    """
    cursor = await conn.execute(
        f"""
        WITH picked AS MATERIALIZED (
            SELECT e.id, e.subject, e.n, e.at, e.type FROM events e
             WHERE (e.at, e.id) > (%(at)s, %(last)s::uuid)
             ORDER BY e.at, e.id LIMIT %(limit)s
        ), again AS (
            INSERT INTO event_deliveries AS d (sink_id, event_id, subject, n, replayed_at)
            SELECT s.id, p.id, p.subject, p.n, now()
              FROM picked p JOIN event_sinks s ON s.id = %(sink)s AND (s.types IS NULL OR p.type = ANY (s.types))
             ORDER BY p.id
            ON CONFLICT (event_id, sink_id) DO UPDATE SET {_AGAIN}
             WHERE d.state IN ('delivered', 'dead', 'cancelled')
            RETURNING d.id)
        SELECT (SELECT count(*) FROM again), (SELECT count(*) FROM picked), last.at, last.id, pg_notify(%(channel)s, '')
          FROM (SELECT at, id FROM picked ORDER BY at DESC, id DESC LIMIT 1) AS last
        """,  # noqa: S608 - a constant
        {
            "sink": sink_id,
            "at": since if after is None else after[0],
            "last": UUID(int=0) if after is None else after[1],
            "limit": BATCH,
            "channel": DELIVERIES.channel,
        },
    )
    row = await cursor.fetchone()
    if row is None:
        return 0, None
    repeated, picked, at, last, _ = row
    return repeated, (at, last) if picked == BATCH else None


async def request_replay(conn: Connection, sink_id: UUID, since: datetime) -> None:
    """Ask for a replay of the events since a time to a sink. One under way that begins earlier covers it."""
    await conn.execute(
        """
        UPDATE event_sinks
           SET replay_at = least(replay_at, wanted.since),
               replay_after = CASE WHEN replay_at <= wanted.since THEN replay_after ELSE %(first)s END
          FROM (SELECT greatest(%(since)s, now() - %(keep)s) AS since) AS wanted
         WHERE id = %(id)s
        """,
        {"id": sink_id, "since": since, "first": UUID(int=0), "keep": KEEP},
    )


async def continue_replay(conn: Connection) -> None:
    """Repeat one batch of a replay that was asked for, in the caller's transaction; do nothing if there is none."""
    cursor = await conn.execute(
        """
        SELECT id, replay_at, replay_after FROM event_sinks
         WHERE replay_at IS NOT NULL AND ended_at IS NULL AND disabled_at IS NULL
         ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
        """
    )
    row = await cursor.fetchone()
    if row is None:
        return
    sink_id, at, last = row
    _, position = await replay_since(conn, sink_id, at, (at, last))
    at, last = position or (None, None)
    await conn.execute(
        "UPDATE event_sinks SET replay_at = %(at)s, replay_after = %(last)s WHERE id = %(id)s",
        {"at": at, "last": last, "id": sink_id},
    )


async def purge_events(conn: Connection, limit: int) -> int:
    """Delete events past retention with their deliveries, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM events
         WHERE id IN (SELECT id FROM events WHERE at <= now() - %(keep)s
                       ORDER BY at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"keep": KEEP, "limit": limit},
    )
    return cursor.rowcount


async def cancel_deliveries(conn: Connection, limit: int) -> int:
    """Cancel what is still due to webhooks that have ended or are disabled, and return the count."""
    cursor = await conn.execute(
        """
        UPDATE event_deliveries SET state = 'cancelled', due_at = NULL, lease = NULL, changed_at = now()
         WHERE id IN (SELECT d.id
                        FROM event_sinks s
                       CROSS JOIN LATERAL (
                            SELECT id FROM event_deliveries
                             WHERE sink_id = s.id AND state IN ('queued', 'sending', 'delayed')
                             ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS d
                       WHERE s.kind = 'webhook' AND (s.ended_at IS NOT NULL OR s.disabled_at IS NOT NULL)
                       LIMIT %(limit)s)
        """,
        {"limit": limit},
    )
    return cursor.rowcount


async def add_test(conn: Connection, webhook_id: UUID) -> UUID:
    """Add an event for one webhook alone, in the caller's transaction, and return the id of its delivery."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            WITH told AS (
                INSERT INTO events (type, subject_kind, subject, data)
                VALUES (%(type)s, 'webhook', %(id)s, jsonb_build_object('webhook', %(id)s::uuid))
                RETURNING id, n
            ), added AS (
                INSERT INTO event_deliveries (sink_id, event_id, subject, n, replayed_at)
                SELECT %(id)s, id, %(id)s, n, now() FROM told
                RETURNING id)
            SELECT id FROM added, pg_notify(%(channel)s, '')
            """,
            {"type": TEST_TYPE, "id": webhook_id, "channel": DELIVERIES.channel},
        )
        found: UUID | None = await cursor.fetchone()
    assert found is not None  # noqa: S101 - RETURNING
    return found
