"""What the broker holds: the part of a message's state that a relay writes.

A published message stays `queued`; `published_at` records that the broker's queue should hold a message for it. While
it should, no relay publishes it again: otherwise every reset of a connection would add the whole backlog to the queue.
A worker without a broker may still claim it once it is due: the claim decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.mail.queue.precedence import BEST_DUE
from regsvc.postgres.connection import Connection

PUBLISHING = timedelta(seconds=20)  # for a relay to publish what it took
UNCLAIMED = timedelta(minutes=5)  # after which a published message may have been lost
BROKER_MISSED = timedelta(seconds=10)  # after which messages bypass the broker
BATCH = 1_000  # messages changed per statement at most: about a tenth of a second
REVIEWED = 20_000  # messages in the queue beyond which nothing is counted


@dataclass(frozen=True)
class Review:
    """The result of a review of late messages.

    Args:
        kept: messages that the broker may still deliver.
        released: messages missing from the queue, to be published again.
    """

    kept: int = 0
    released: int = 0


_OLDEST = """
    SELECT id FROM mails
     WHERE state IN ('queued', 'sending', 'delayed') AND due_at <= now() AND published_at IS NULL
     ORDER BY due_at LIMIT %(limit)s
       FOR UPDATE SKIP LOCKED"""


async def take_for_publishing(conn: Connection, limit: int, *, best: bool = False) -> list[UUID]:
    """Take due messages for the broker; if the relay crashes before `note_published`, they are delayed for 20 s.

    Args:
        conn: connection to write with.
        limit: maximum number of messages.
        best: take them in the order in which they are claimed, not the oldest first.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            UPDATE mails
               SET state = 'queued', lease = NULL, due_at = now() + %(publishing)s, changed_at = now()
             WHERE id = ANY(ARRAY({BEST_DUE if best else _OLDEST}))
            RETURNING id
            """,  # noqa: S608 - constants
            {"publishing": PUBLISHING, "limit": limit},
        )
        return await cursor.fetchall()


async def find_traces(conn: Connection, mail_ids: Sequence[UUID]) -> dict[UUID, bytes]:
    """Return the spans of the requests for these messages, as stored, of those that were traced."""
    cursor = await conn.execute(
        "SELECT id, trace_context FROM mails WHERE id = ANY(%(ids)s) AND trace_context IS NOT NULL",
        {"ids": list(mail_ids)},
    )
    return dict(await cursor.fetchall())


async def note_published(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Record that the broker has these messages; unclaimed, they are due again after 5 minutes.

    A locked message is being claimed: there is nothing left to record.
    """
    await conn.execute(
        """
        UPDATE mails SET published_at = now(), due_at = now() + %(unclaimed)s
         WHERE id IN (SELECT id FROM mails WHERE id = ANY(%(ids)s) AND state = 'queued' FOR UPDATE SKIP LOCKED)
        """,
        {"ids": list(mail_ids), "unclaimed": UNCLAIMED},
    )


async def release_unpublished(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Release unpublished messages at once to workers without a broker."""
    await conn.execute(
        "UPDATE mails SET due_at = now() - %(missed)s WHERE id = ANY(%(ids)s) AND state = 'queued'",
        {"ids": list(mail_ids), "missed": BROKER_MISSED},
    )


async def strand_published(conn: Connection, *, limit: int = BATCH) -> int:
    """Release published messages at once to workers without a broker, and return the count.

    The broker may be gone for good or for a second. It may still hold the messages, so no relay publishes them again.

    Args:
        conn: connection to write with.
        limit: maximum number of messages; if as many are returned, there may be more.
    """
    cursor = await conn.execute(
        """
        UPDATE mails SET due_at = now() - %(missed)s
         WHERE id IN (SELECT id FROM mails
                       WHERE state = 'queued' AND published_at IS NOT NULL
                         AND due_at > now() AND published_at <= now() - %(missed)s
                       ORDER BY due_at LIMIT %(limit)s
                         FOR UPDATE SKIP LOCKED)
        """,
        {"missed": BROKER_MISSED, "limit": limit},
    )
    return cursor.rowcount


async def release_published(
    conn: Connection, *, unclaimed_for: timedelta = timedelta(0), limit: int = BATCH
) -> int:
    """Make unclaimed published messages due, because the queue is empty; return the count.

    Args:
        conn: connection to write with.
        unclaimed_for: minimum time since publishing.
        limit: maximum number of messages; if as many are returned, there may be more.

    Returns:
        Number of messages made due.
    """
    cursor = await conn.execute(
        """
        UPDATE mails SET due_at = now() - %(missed)s, published_at = NULL
         WHERE id IN (SELECT id FROM mails
                       WHERE state = 'queued' AND published_at IS NOT NULL
                         AND published_at <= now() - %(unclaimed_for)s
                       ORDER BY due_at LIMIT %(limit)s
                         FOR UPDATE SKIP LOCKED)
        """,
        {"missed": BROKER_MISSED, "unclaimed_for": unclaimed_for, "limit": limit},
    )
    return cursor.rowcount


async def review_published(conn: Connection, ready: int) -> Review:
    """Decide about published messages that are due again, in the caller's transaction.

    While the queue holds as many messages as are published, none is lost: each only waits for its turn. Missing ones
    were lost or are with a consumer: that many, due first and published more than five minutes ago, are published
    again. So lost messages come back, and an unread queue does not grow: after five minutes without a claim its
    messages are due for workers without a broker.

    Counting costs more the more is published. So a long queue is not counted, and messages are released in batches: the
    rest follows later or bypasses the queue.

    Args:
        conn: in a transaction.
        ready: messages waiting in the queue.
    """
    if ready > REVIEWED:
        return Review()
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT EXISTS (SELECT FROM mails"
            " WHERE state = 'queued' AND published_at IS NOT NULL AND due_at <= now())"
        )
        if not await cursor.fetchone():
            return Review()
        await cursor.execute(
            "SELECT count(*) FROM (SELECT FROM mails"
            " WHERE state = 'queued' AND published_at IS NOT NULL LIMIT %(enough)s) published",
            {"enough": ready + BATCH},
        )
        missing = (await cursor.fetchone() or 0) - ready
    if missing <= 0:
        cursor = await conn.execute(
            """
            UPDATE mails SET due_at = published_at + %(unclaimed)s
             WHERE id IN (SELECT id FROM mails
                           WHERE state = 'queued' AND published_at IS NOT NULL
                             AND due_at <= now() AND published_at > now() - %(unclaimed)s
                           ORDER BY due_at LIMIT %(limit)s
                             FOR UPDATE SKIP LOCKED)
            """,
            {"unclaimed": UNCLAIMED, "limit": BATCH},
        )
        return Review(kept=cursor.rowcount)
    cursor = await conn.execute(
        """
        UPDATE mails SET published_at = NULL
         WHERE id IN (SELECT id FROM mails
                       WHERE state = 'queued' AND published_at IS NOT NULL
                         AND due_at <= now() AND published_at <= now() - %(unclaimed)s
                       ORDER BY due_at LIMIT %(missing)s
                         FOR UPDATE SKIP LOCKED)
        """,
        {"unclaimed": UNCLAIMED, "missing": missing},
    )
    return Review(released=cursor.rowcount)
