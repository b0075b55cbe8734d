"""Suppressed addresses, known by a MAC alone.

A hard bounce suppresses sign-up mail for 24 hours, a second one within a year for 30 days: mail servers fall over, and
their operators' servers then say "no such user". A complaint suppresses it for 30 days. Attempts walk as ever, whether
the address has an account or not. Mails to the owner of an account still go: after a bounce one of each kind a day.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from psycopg.rows import class_row

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.deliveries.families import find_family
from regsvc.accounts.deliveries.suppression_key import find_mac_key, get_mac_key
from regsvc.errors import RegsvcError
from regsvc.mail.reports.report import Kind, Reason
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets

FIRST = timedelta(hours=24)
AGAIN = timedelta(days=30)
COMPLAINED = timedelta(days=30)
YEAR = timedelta(days=365)
COLUMNS = (
    "id, family, bounces, bounced_at, bounced_until, reason, complained_at, complained_until, changed_at"
)
"""What `Suppression` is read from."""


class SuppressionNotFoundError(RegsvcError):
    """This address is not suppressed."""

    code = "suppression_not_found"


@dataclass(frozen=True)
class Suppressed:
    """Why and until when an address gets no sign-up mail.

    Args:
        key: MAC of the address.
        bounced_until: end after a bounce; None if it is over.
        complained_until: end after a complaint; None if it is over.
        kind: of the last bounce.
        reason: of the last bounce.
    """

    key: bytes
    bounced_until: datetime | None
    complained_until: datetime | None
    kind: Kind | None
    reason: Reason | None


@dataclass(frozen=True)
class Suppression:
    """A suppressed address, as operators see it.

    Args:
        id: of the entry.
        family: receiver family of the address.
        bounces: hard bounces within a year.
        bounced_at: time of the last one.
        bounced_until: end after it.
        reason: of the last bounce.
        complained_at: time of the last complaint.
        complained_until: end after it.
        changed_at: time of the last change.
    """

    id: UUID
    family: str
    bounces: int
    bounced_at: datetime | None
    bounced_until: datetime | None
    reason: str | None
    complained_at: datetime | None
    complained_until: datetime | None
    changed_at: datetime


async def note_bounce(
    conn: Connection, secrets: Secrets, email_key: str, *, kind: Kind, reason: Reason | None, at: datetime
) -> None:
    """Suppress an address after a hard bounce, in the transaction of its report."""
    await conn.execute(
        """
        INSERT INTO suppressions AS s (id, key, secret, family, bounces, bounced_at, bounced_until, kind, reason)
        VALUES (%(id)s, %(key)s, %(secret)s, %(family)s, 1, %(at)s, %(at)s + %(first)s, %(kind)s, %(reason)s)
        ON CONFLICT (key) DO UPDATE
           SET bounces = CASE WHEN s.bounced_at > excluded.bounced_at - %(year)s THEN s.bounces + 1 ELSE 1 END,
               bounced_at = greatest(s.bounced_at, excluded.bounced_at),
               bounced_until = greatest(s.bounced_until, excluded.bounced_at + CASE
                   WHEN s.bounced_at > excluded.bounced_at - %(year)s THEN %(again)s::interval ELSE %(first)s END),
               kind = excluded.kind, reason = excluded.reason, changed_at = now()
        """,
        {
            **await _identify(conn, secrets, email_key),
            "kind": kind,
            "reason": reason or "other",
            "at": at,
            "first": FIRST,
            "again": AGAIN,
            "year": YEAR,
        },
    )


async def note_complaint(conn: Connection, secrets: Secrets, email_key: str, *, at: datetime) -> None:
    """Suppress an address after a complaint, in the transaction of its report."""
    await conn.execute(
        """
        INSERT INTO suppressions AS s (id, key, secret, family, complained_at, complained_until)
        VALUES (%(id)s, %(key)s, %(secret)s, %(family)s, %(at)s, %(at)s + %(life)s)
        ON CONFLICT (key) DO UPDATE
           SET complained_at = greatest(s.complained_at, excluded.complained_at),
               complained_until = greatest(s.complained_until, excluded.complained_until), changed_at = now()
        """,
        {**await _identify(conn, secrets, email_key), "at": at, "life": COMPLAINED},
    )


async def find_suppressed(
    conn: Connection, secrets: Secrets, email_keys: Collection[str]
) -> dict[str, Suppressed]:
    """Return those of these addresses that are suppressed now."""
    mac_key = await find_mac_key(conn, secrets) if email_keys else None
    if mac_key is None:
        return {}
    named = {make_key(mac_key, email_key): email_key for email_key in email_keys}
    async with conn.cursor(row_factory=class_row(Suppressed)) as cursor:
        await cursor.execute(
            """
            SELECT key, CASE WHEN bounced_until > now() THEN bounced_until END AS bounced_until,
                   CASE WHEN complained_until > now() THEN complained_until END AS complained_until, kind, reason
              FROM suppressions
             WHERE key = ANY(%(keys)s) AND (bounced_until > now() OR complained_until > now())
            """,
            {"keys": list(named)},
        )
        return {named[bytes(found.key)]: found for found in await cursor.fetchall()}


def make_key(mac_key: bytes, email_key: str) -> bytes:
    """Return the key of an address's entry."""
    return hmac.digest(mac_key, email_key.encode(), "sha256")


async def pass_once_a_day(conn: Connection, key: bytes, kind: str, mail_id: UUID) -> bool:
    """Return whether a mail goes to an address that bounced: one of each kind a day, however often it is tried.

    Args:
        conn: in a transaction.
        key: of the suppressed address.
        kind: of the mail.
        mail_id: the mail.
    """
    cursor = await conn.execute(
        """
        UPDATE suppressions
           SET passed = passed || jsonb_build_object(%(kind)s::text,
                   jsonb_build_object('mail', %(mail_id)s::uuid, 'at', now()))
         WHERE key = %(key)s
           AND (passed #>> ARRAY[%(kind)s, 'mail'] = %(mail_id)s::text
                OR coalesce((passed #>> ARRAY[%(kind)s, 'at'])::timestamptz <= now() - interval '24 hours', true))
        """,
        {"key": key, "kind": kind, "mail_id": mail_id},
    )
    return cursor.rowcount > 0


async def list_suppressions(conn: Connection, limit: int) -> list[Suppression]:
    """Return suppressed addresses, the last changed first."""
    async with conn.cursor(row_factory=class_row(Suppression)) as cursor:
        await cursor.execute(
            f"SELECT {COLUMNS} FROM suppressions ORDER BY changed_at DESC, id DESC LIMIT %(limit)s",  # noqa: S608 - a constant
            {"limit": limit},
        )
        return await cursor.fetchall()


async def lift_suppression(conn: Connection, suppression_id: UUID, by: By) -> None:
    """Forget that an address bounced or complained.

    Raises:
        SuppressionNotFoundError: there is no such entry.
    """
    cursor = await conn.execute("DELETE FROM suppressions WHERE id = %(id)s", {"id": suppression_id})
    if cursor.rowcount == 0:
        raise SuppressionNotFoundError
    await record(conn, "suppression_lifted", by, suppression=str(suppression_id))


async def lift_address(conn: Connection, secrets: Secrets, email_key: str, by: By) -> None:
    """Forget that this address bounced or complained.

    Raises:
        SuppressionNotFoundError: it did not.
    """
    mac_key = await find_mac_key(conn, secrets)
    if mac_key is None:
        raise SuppressionNotFoundError
    cursor = await conn.execute(
        "DELETE FROM suppressions WHERE key = %(key)s", {"key": make_key(mac_key, email_key)}
    )
    if cursor.rowcount == 0:
        raise SuppressionNotFoundError
    await record(conn, "suppression_lifted", by)


async def purge_suppressions(conn: Connection, limit: int) -> int:
    """Delete entries that suppress nothing and whose last bounce is a year old, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM suppressions
         WHERE id IN (SELECT id FROM suppressions
                       WHERE changed_at <= now() - %(year)s
                       ORDER BY changed_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"year": YEAR, "limit": limit},
    )
    return cursor.rowcount


async def _identify(conn: Connection, secrets: Secrets, email_key: str) -> dict[str, object]:
    return {
        "id": uuid4(),
        "key": make_key(await get_mac_key(conn, secrets), email_key),
        "secret": "mac_keys",
        "family": find_family(email_key),
    }
