"""What the broker has been told of: the part of a mail's life that a relay writes.

A published mail stays `queued`; `published_at` says that a message for it should be in the broker's queue. As long as
it should be there no relay publishes it again, or every reset of a connection would make the queue longer by the whole
backlog. A worker that needs no broker may claim it all the same once it is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.postgres.connection import Connection

PUBLISHING = timedelta(seconds=20)  # that a relay has for publishing what it took
UNCLAIMED = timedelta(minutes=5)  # after which a published message may have been lost
BROKER_MISSED = timedelta(seconds=10)  # after which mails are taken past the broker
BATCH = 1_000  # mails that one statement changes at most: a tenth of a second or so
REVIEWED = 20_000  # messages in the queue beyond which nothing is counted


@dataclass(frozen=True)
class Review:
    """What a look at late messages came to.

    Args:
        kept: mails that a broker that was gone for a moment may bring after all.
        released: mails whose message is not there any more: they are to be published again.
    """

    kept: int = 0
    released: int = 0


async def take_for_publishing(conn: Connection, limit: int) -> list[UUID]:
    """Take due mails for the broker. A relay that dies before `note_published` delays them by 20 s only."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            UPDATE mails
               SET state = 'queued', lease = NULL, due_at = now() + %(publishing)s, changed_at = now()
             WHERE id IN (SELECT id FROM mails
                           WHERE state IN ('queued', 'sending', 'delayed') AND due_at <= now()
                             AND published_at IS NULL
                           ORDER BY due_at LIMIT %(limit)s
                             FOR UPDATE SKIP LOCKED)
            RETURNING id
            """,
            {"publishing": PUBLISHING, "limit": limit},
        )
        return await cursor.fetchall()


async def note_published(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Note that the broker has these mails; unclaimed, they are due again after 5 minutes.

    A mail that is locked is being claimed: there is nothing left to note.
    """
    await conn.execute(
        """
        UPDATE mails SET published_at = now(), due_at = now() + %(unclaimed)s
         WHERE id IN (SELECT id FROM mails WHERE id = ANY(%(ids)s) AND state = 'queued' FOR UPDATE SKIP LOCKED)
        """,
        {"ids": list(mail_ids), "unclaimed": UNCLAIMED},
    )


async def release_unpublished(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Release mails that could not be published, at once, to workers that need no broker."""
    await conn.execute(
        "UPDATE mails SET due_at = now() - %(missed)s WHERE id = ANY(%(ids)s) AND state = 'queued'",
        {"ids": list(mail_ids), "missed": BROKER_MISSED},
    )


async def strand_published(conn: Connection, *, limit: int = BATCH) -> int:
    """Give what was published to those who need no broker, at once, and return how many mails that are.

    The broker is gone, perhaps for good and perhaps for a second: their messages may be where they were, so no relay
    publishes them again.

    Args:
        conn: writes.
        limit: mails at most; as many returned say that there may be more.
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
    """Make published mails due that no worker has claimed: the broker's queue is empty.

    Args:
        conn: writes.
        unclaimed_for: how long ago it must have been published.
        limit: mails at most; as many returned say that there may be more.

    Returns:
        How many mails that are.
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
    """Decide what becomes of mails that were published and are due again, in a transaction of the caller's.

    While as many messages wait in the queue as mails are published, each is there and only has not had its turn. What
    is missing was lost, or is in a consumer's hands: so many mails, those that were due first and were published more
    than five minutes ago, are published again. So whoever lost messages has them back, and a queue that nobody reads
    does not grow. Its mails go past it: what nobody claimed for five minutes stays due for those who need no broker.

    Counting costs more the more is published, so beside a long queue nothing is counted, and a batch at a time is
    released: what is not mended now is mended later, or goes past the queue.

    Args:
        conn: in a transaction.
        ready: how many messages wait in the queue.
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
