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

from psycopg.rows import tuple_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection

KEEP = timedelta(hours=24)


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
        key: a MAC of what it is known by: the call, the client's network, and the key that the client chose.
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


async def purge_idempotency_keys(conn: Connection, limit: int) -> int:
    """Delete keys that are older than a day, and return how many."""
    cursor = await conn.execute(
        """
        DELETE FROM idempotency_keys
         WHERE key IN (SELECT key FROM idempotency_keys WHERE created_at <= now() - %(keep)s
                        ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"keep": KEEP, "limit": limit},
    )
    return cursor.rowcount
