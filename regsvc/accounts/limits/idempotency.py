"""Idempotency: a client that received no answer repeats the request with the same key.

The key is written in the transaction of the request, so a crash keeps both or neither
(draft-ietf-httpapi-idempotency-key-header). The response is not stored; it is built again from the request's subject.
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
REPEAT = timedelta(seconds=10)  # within which a repeated request without a key counts as a double click


class IdempotencyKeyReusedError(RegsvcError):
    """This Idempotency-Key was used with a different body. Use a new key for every request."""

    code = "idempotency_key_reused"


class RequestInFlightError(RegsvcError):
    """The same request is in progress. Retry in a second."""

    code = "request_in_flight"


@dataclass(frozen=True)
class Once:
    """The identity of an idempotent request.

    Args:
        key: a MAC of the call, the client's address and software, and its key.
        fingerprint: a MAC of the body.
    """

    key: bytes
    fingerprint: bytes


# Claims a key as part of another statement, and returns the subject that it now has; no row where another has the key.
CLAIMED_ONCE = """
    INSERT INTO idempotency_keys AS i (key, fingerprint, subject, created_at)
    SELECT %(key)s, %(fingerprint)s, %(subject)s, now()
     -- Held until the transaction ends: concurrent requests are refused instead of waiting.
     WHERE pg_try_advisory_xact_lock(%(high)s::integer, %(low)s::integer)
    ON CONFLICT (key) DO UPDATE
       SET fingerprint = excluded.fingerprint, subject = excluded.subject, created_at = now()
     WHERE i.created_at <= now() - %(keep)s
    RETURNING subject
"""
# The same for a request that may be repeated, with the subject of the first one. The row is backdated, so it lives ten
# seconds where others live a day.
CLAIMED_REPEAT = """
    INSERT INTO idempotency_keys AS i (key, fingerprint, subject, created_at)
    VALUES (%(key)s, %(key)s, %(subject)s, now() - %(keep)s + %(repeat)s)
    ON CONFLICT (key) DO UPDATE
       SET subject = CASE WHEN i.created_at > now() - %(keep)s THEN i.subject
                          ELSE excluded.subject END,
           created_at = CASE WHEN i.created_at > now() - %(keep)s THEN i.created_at
                             ELSE excluded.created_at END
    RETURNING subject
"""


def once_values(once: Once, subject: UUID) -> dict[str, object]:
    """Return the values of a statement with `CLAIMED_ONCE`."""
    high, low = struct.unpack_from(">ii", once.key)
    return {**vars(once), "subject": subject, "high": high, "low": low, "keep": KEEP}


def repeat_values(key: bytes, subject: UUID) -> dict[str, object]:
    """Return the values of a statement with `CLAIMED_REPEAT`."""
    return {"key": key, "subject": subject, "keep": KEEP, "repeat": REPEAT}


async def find_subject(conn: Connection, once: Once) -> UUID | None:
    """Return the subject of a request that was already done, or None.

    Raises:
        IdempotencyKeyReusedError: the key was used for a different request.
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
    """Claim an idempotency key: write the request's subject in the caller's transaction.

    Args:
        conn: in the transaction of the request.
        once: None for a request without a key, which is always done.
        subject: id of what the request creates or changes, if it is done now.

    Returns:
        `subject` if the caller must do the request now; otherwise the first request's subject.

    Raises:
        IdempotencyKeyReusedError: the key was used for a different request.
        RequestInFlightError: a concurrent request holds the key.
    """
    if once is None:
        return subject
    cursor = await conn.execute(CLAIMED_ONCE, once_values(once, subject))
    if cursor.rowcount > 0:
        return subject
    first = await find_subject(conn, once)
    if first is None:
        raise RequestInFlightError
    return first


async def claim_repeat(conn: Connection, key: bytes, subject: UUID) -> UUID:
    """Claim a request that a client may repeat within ten seconds, in the caller's transaction.

    A concurrent request waits for the first one.

    Args:
        conn: in the transaction of the request.
        key: a MAC of the client and the whole request.
        subject: id of what the request creates or changes, if it is done now.

    Returns:
        `subject` if the caller must do the request now; otherwise the first request's subject.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(CLAIMED_REPEAT, repeat_values(key, subject))
        first = await cursor.fetchone()
    assert isinstance(first, UUID)  # noqa: S101 - the column's type
    return first


async def find_repeat(conn: Connection, key: bytes) -> UUID | None:
    """Return the subject of a request that came within the last ten seconds, or None."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT subject FROM idempotency_keys WHERE key = %(key)s AND created_at > now() - %(keep)s",
            {"key": key, "keep": KEEP},
        )
        return await cursor.fetchone()


async def renew_repeat(conn: Connection, key: bytes, subject: UUID) -> None:
    """Make a request the first of its kind: the result of the earlier one is over."""
    await conn.execute(
        """
        UPDATE idempotency_keys SET subject = %(subject)s, created_at = now() - %(keep)s + %(repeat)s
         WHERE key = %(key)s
        """,
        repeat_values(key, subject),
    )


async def purge_idempotency_keys(conn: Connection, limit: int) -> int:
    """Delete expired keys, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM idempotency_keys
         WHERE key IN (SELECT key FROM idempotency_keys WHERE created_at <= now() - %(keep)s
                        ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"keep": KEEP, "limit": limit},
    )
    return cursor.rowcount
