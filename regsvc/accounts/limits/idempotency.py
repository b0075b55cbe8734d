"""Doing once what is asked for twice: a client that heard no answer sends the same request with the same key again.

The key is written in the transaction of what the request asks for, so that after a crash there are both or neither
(draft-ietf-httpapi-idempotency-key-header). The answer is not kept; it is made again from what the request was about.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.rows import scalar_row, tuple_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection

KEEP = timedelta(hours=24)
REPEAT = timedelta(
    seconds=10
)  # within which the same request, without a key, is a button that was pressed twice


class IdempotencyKeyReusedError(RegsvcError):
    """This Idempotency-Key came with another body before: every request needs one of its own."""

    code = "idempotency_key_reused"


class RequestInFlightError(RegsvcError):
    """The same request is being answered at this moment: ask again in a second."""

    code = "request_in_flight"


@dataclass(frozen=True)
class Once:
    """A request that is to be done once.

    Args:
        key: a MAC of the call, the client's address and software, and the key that the client chose.
        fingerprint: a MAC of its body.
    """

    key: bytes
    fingerprint: bytes


async def find_subject(conn: Connection, once: Once) -> UUID | None:
    """Return what the request was about when it was done before; None: it was not.

    Raises:
        IdempotencyKeyReusedError: it was another request.
    """
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            """
            SELECT fingerprint, subject FROM idempotency_keys
             WHERE key = %(key)s AND created_at > now() - %(keep)s
            """,
            {"key": once.key, "keep": KEEP},
        )
        row = await cursor.fetchone()
    if row is None:
        return None
    fingerprint, subject = row
    if not hmac.compare_digest(fingerprint, once.fingerprint):
        raise IdempotencyKeyReusedError
    assert isinstance(subject, UUID)  # noqa: S101 - the column's type
    return subject


async def claim_once(conn: Connection, once: Once | None, subject: UUID) -> UUID:
    """Do a request once: write in the caller's transaction what it is about.

    Args:
        conn: in the transaction that does it.
        once: None for a request that came without a key, which is done each time.
        subject: what it is about, if it is done now.

    Returns:
        The subject if it is to be done now; else that of the first time, when nothing is to be done any more.

    Raises:
        IdempotencyKeyReusedError: it was another request.
        RequestInFlightError: somebody else is doing it.
    """
    if once is None:
        return subject
    high, low = struct.unpack_from(">ii", once.key)
    cursor = await conn.execute(
        """
        INSERT INTO idempotency_keys AS i (key, fingerprint, subject, created_at)
        SELECT %(key)s, %(fingerprint)s, %(subject)s, now()
         -- Held until the transaction ends: whoever comes meanwhile is told so, and does not wait.
         WHERE pg_try_advisory_xact_lock(%(high)s::integer, %(low)s::integer)
        ON CONFLICT (key) DO UPDATE
           SET fingerprint = excluded.fingerprint, subject = excluded.subject, created_at = now()
         WHERE i.created_at <= now() - %(keep)s
        """,
        {**vars(once), "subject": subject, "high": high, "low": low, "keep": KEEP},
    )
    if cursor.rowcount > 0:
        return subject
    first = await find_subject(conn, once)
    if first is None:
        raise RequestInFlightError
    return first


async def claim_repeat(conn: Connection, key: bytes, subject: UUID) -> UUID:
    """Do what the same client asks for twice within ten seconds once, in the caller's transaction.

    A request that overlaps with the first one waits for it.

    Args:
        conn: in the transaction that does it.
        key: a MAC of the client and of everything that the request says.
        subject: what the request is about, if it is done now.

    Returns:
        The subject if the request is to be done now; otherwise that of the first time.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        # The row looks older than it is, so that it lives ten seconds where others live a day.
        await cursor.execute(
            """
            INSERT INTO idempotency_keys AS i (key, fingerprint, subject, created_at)
            VALUES (%(key)s, %(key)s, %(subject)s, now() - %(keep)s + %(repeat)s)
            ON CONFLICT (key) DO UPDATE
               SET subject = CASE WHEN i.created_at > now() - %(keep)s THEN i.subject
                                  ELSE excluded.subject END,
                   created_at = CASE WHEN i.created_at > now() - %(keep)s THEN i.created_at
                                     ELSE excluded.created_at END
            RETURNING subject
            """,
            {"key": key, "subject": subject, "keep": KEEP, "repeat": REPEAT},
        )
        first = await cursor.fetchone()
    assert isinstance(first, UUID)  # noqa: S101 - the column's type
    return first


async def renew_repeat(conn: Connection, key: bytes, subject: UUID) -> None:
    """Let a request count as the first of its kind: what the first one made is over."""
    await conn.execute(
        """
        UPDATE idempotency_keys SET subject = %(subject)s, created_at = now() - %(keep)s + %(repeat)s
         WHERE key = %(key)s
        """,
        {"key": key, "subject": subject, "keep": KEEP, "repeat": REPEAT},
    )


async def purge_idempotency_keys(conn: Connection, limit: int) -> int:
    """Delete keys whose time is over, and return how many."""
    cursor = await conn.execute(
        """
        DELETE FROM idempotency_keys
         WHERE key IN (SELECT key FROM idempotency_keys WHERE created_at <= now() - %(keep)s
                        ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"keep": KEEP, "limit": limit},
    )
    return cursor.rowcount
