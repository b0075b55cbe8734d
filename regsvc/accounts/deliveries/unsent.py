"""Facts of attempts whose own mail is not sent: shown after the usual delay, as if it had been.

Such an attempt takes every later report of the mail that has its address's turn. What that mail's reports said before,
or would have said if it existed, comes as late as a report of the receiver's family usually does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.deliveries.families import Family, get_family
from regsvc.accounts.registrations.registration import STATE_CHANNEL
from regsvc.mail.queue.bookings import Held
from regsvc.mail.queue.jobs import ATTEMPT
from regsvc.mail.reports.report import Kind, Reason
from regsvc.mail.reports.standing import Fate
from regsvc.postgres.connection import Connection


@dataclass(frozen=True)
class _Unsent:
    registration_id: UUID
    seq: int
    email: str


@dataclass(frozen=True)
class _Leading:
    report: Fate | None
    report_kind: Kind | None
    report_reason: Reason | None


async def schedule_facts(conn: Connection, held: Sequence[Held]) -> None:
    """Schedule what attempts will be shown whose mails were just held, and shown as sent."""
    for each in sorted(held, key=lambda held: held.job.id):
        attempt = await _get_attempt(conn, each.job.id)
        if attempt is None:
            continue
        family = await get_family(conn, attempt.email)
        fact = await _choose(conn, each, family)
        if fact is None:
            continue
        event, kind, reason = fact
        await conn.execute(
            """
            INSERT INTO registration_facts AS f (registration_id, due_at, seq, fact, kind, reason)
            VALUES (%(id)s, now() + %(delay)s, %(seq)s, %(fact)s, %(kind)s, %(reason)s)
            ON CONFLICT (registration_id) DO UPDATE
               SET due_at = excluded.due_at, seq = excluded.seq, fact = excluded.fact, kind = excluded.kind,
                   reason = excluded.reason
            """,
            {
                "id": attempt.registration_id,
                "delay": timedelta(seconds=family.usual_delay(bounced=event == "bounced")),
                "seq": attempt.seq,
                "fact": event,
                "kind": kind,
                "reason": reason,
            },
        )


async def show_due_facts(conn: Connection, limit: int) -> float | None:
    """Show attempts what is due, unless something else was shown since; return seconds until the next is due."""
    await conn.execute(
        """
        WITH due AS MATERIALIZED (
            DELETE FROM registration_facts
             WHERE registration_id = ANY(ARRAY(
                       SELECT f.registration_id
                         FROM registration_facts f JOIN registrations r ON r.id = f.registration_id
                        WHERE f.due_at <= now() ORDER BY f.due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
            RETURNING registration_id, seq, fact, kind, reason
        ), moved AS (
            UPDATE registrations r
               SET state = CASE d.fact WHEN 'bounced' THEN 'bounced' ELSE 'sent' END, seq = r.seq + 1,
                   changed_at = now(), reason = d.reason, bounce_kind = d.kind,
                   delivered_at = CASE d.fact WHEN 'delivered' THEN now() END
              FROM due d
             WHERE r.id = d.registration_id AND r.seq = d.seq AND r.state = 'sent'
            RETURNING r.id, r.seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,
        {"limit": limit, "channel": STATE_CHANNEL},
    )
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute("SELECT extract(epoch FROM min(due_at) - now())::float8 FROM registration_facts")
        return await cursor.fetchone()


async def _get_attempt(conn: Connection, mail_id: UUID) -> _Unsent | None:
    async with conn.cursor(row_factory=class_row(_Unsent)) as cursor:
        await cursor.execute(
            f"""
            SELECT r.id AS registration_id, r.seq, r.email
              FROM mails m JOIN registrations r ON r.id = {ATTEMPT}
             WHERE m.id = %(id)s AND r.state = 'sent'
            """,  # noqa: S608 - a constant
            {"id": mail_id},
        )
        return await cursor.fetchone()


async def _choose(
    conn: Connection, held: Held, family: Family
) -> tuple[Fate, Kind | None, Reason | None] | None:
    delivered: tuple[Fate, None, None] | None = ("delivered", None, None) if family.shows_deliveries else None
    if held.bounce is not None:
        return "bounced", *held.bounce
    if held.leader is None:
        return delivered
    async with conn.cursor(row_factory=class_row(_Leading)) as cursor:
        await cursor.execute(
            "SELECT report, report_kind, report_reason FROM mails WHERE id = %(id)s", {"id": held.leader}
        )
        leading = await cursor.fetchone()
    if leading is None or leading.report == "delivered":
        return delivered
    if leading.report in {"bounced", "failed"}:
        return "bounced", leading.report_kind or "soft", leading.report_reason or "other"
    return None
