"""Store a report once, and move everything that it concerns, in one transaction.

Lock the mail before its registrations, as senders do.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.deliveries import showing, suppression
from regsvc.accounts.deliveries.attribution import Senders, find_mail
from regsvc.accounts.deliveries.families import get_family
from regsvc.mail.queue.jobs import ATTEMPT
from regsvc.mail.reports.report import Event, Kind, Reason, Report
from regsvc.mail.reports.standing import Fate, Standing, judge_reports
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets
from regsvc.tracing.spans import follow
from regsvc.tracing.trace_context import read_stored

MOST = 50  # reports kept per mail: its recipient could send any number
SERVICE = By("service")

Outcome = Literal["applied", "repeated", "unknown"]


@dataclass(frozen=True)
class Known:
    """A stored report."""

    event: Event
    at: datetime
    kind: Kind | None
    reason: Reason | None


@dataclass(frozen=True)
class _Mail:
    id: UUID
    user_id: UUID | None
    email: str | None
    email_key: str | None
    report: Fate | None
    report_kind: Kind | None
    report_reason: Reason | None
    trace: bytes | None


async def apply_report(conn: Connection, secrets: Secrets, senders: Senders, report: Report) -> Outcome:
    """Store a report and show what follows from all reports about its mail.

    Args:
        conn: in a transaction.
        secrets: verify envelope senders and find schedules.
        senders: addresses by which our mails are recognised.
        report: from an authenticated source.

    Returns:
        `unknown` if it concerns no mail of ours, `repeated` if it was stored before.
    """
    mail_id = await find_mail(conn, secrets, senders, report.clues)
    mail = None if mail_id is None else await _lock_mail(conn, mail_id)
    if mail is None:
        return "unknown"
    follow("mail report", read_stored(mail.trace))
    known = await _add(conn, mail.id, report)
    if known is None:
        return "repeated"
    standing = judge_reports(known)
    before = (mail.report, mail.report_kind, mail.report_reason)
    if standing is not None and before != (standing.event, standing.kind, standing.reason):
        await _set_standing(conn, mail.id, standing)
        await show_mail(conn, secrets, mail.id, standing, email=mail.email)
    await _suppress(conn, secrets, mail, report, known)
    if report.event not in {"delivered", "deferred"}:
        await record(
            conn,
            "mail_reported",
            SERVICE,
            user_id=mail.user_id,
            mail=str(mail.id),
            report=report.event,
            kind=report.kind,
            reason=report.reason,
            source=report.source,
        )
    return "applied"


async def show_mail(
    conn: Connection, secrets: Secrets, mail_id: UUID, standing: Standing, *, email: str | None
) -> int:
    """Show the registrations that a mail concerns where it is, and return how many changed."""
    shown = (
        standing.event == "delivered"
        and email is not None
        and (await get_family(conn, email)).shows_deliveries
    )
    ids = await showing.find_showing(conn, secrets, mail_id)
    return await showing.show_standing(conn, ids, standing, deliveries_shown=shown)


async def show_reported(conn: Connection, secrets: Secrets, mail_ids: list[UUID]) -> None:
    """Show what was reported about mails before their acceptance was booked; providers may be that quick."""
    async with conn.cursor(row_factory=class_row(_Mail)) as cursor:
        await cursor.execute(f"{_MAIL} WHERE m.id = ANY(%(ids)s) AND m.report IS NOT NULL", {"ids": mail_ids})
        found = await cursor.fetchall()
    for mail in found:
        if mail.report is not None:
            standing = Standing(mail.report, mail.report_kind, mail.report_reason)
            await show_mail(conn, secrets, mail.id, standing, email=mail.email)


_MAIL = f"""
    SELECT m.id, m.user_id, coalesce(m.email, r.email) AS email,
           coalesce(m.email_key, CASE WHEN m.created_at >= r.address_since
                                      THEN r.email_key END) AS email_key,
           m.report, m.report_kind, m.report_reason, m.trace_context AS trace
      FROM mails m LEFT JOIN registrations r ON r.id = {ATTEMPT}"""  # noqa: S608 - a constant


async def _lock_mail(conn: Connection, mail_id: UUID) -> _Mail | None:
    async with conn.cursor(row_factory=class_row(_Mail)) as cursor:
        await cursor.execute(f"{_MAIL} WHERE m.id = %(id)s FOR NO KEY UPDATE OF m", {"id": mail_id})
        return await cursor.fetchone()


async def _add(conn: Connection, mail_id: UUID, report: Report) -> list[Known] | None:
    """Store a report and return all about its mail; None if it was stored before, or too many are."""
    cursor = await conn.execute(
        """
        INSERT INTO mail_reports (key, mail_id, source, event, kind, reason, at)
        SELECT %(key)s, %(mail_id)s, %(source)s, %(event)s, %(kind)s, %(reason)s, least(%(at)s, now())
         WHERE (SELECT count(*) FROM mail_reports WHERE mail_id = %(mail_id)s) < %(most)s
        ON CONFLICT (key) DO NOTHING
        """,
        {
            "key": report.key,
            "mail_id": mail_id,
            "source": report.source,
            "event": report.event,
            "kind": report.kind,
            "reason": report.reason,
            "at": report.at,
            "most": MOST,
        },
    )
    if cursor.rowcount == 0:
        return None
    async with conn.cursor(row_factory=class_row(Known)) as rows:
        await rows.execute(
            "SELECT event, at, kind, reason FROM mail_reports WHERE mail_id = %(mail_id)s ORDER BY at",
            {"mail_id": mail_id},
        )
        return await rows.fetchall()


async def _set_standing(conn: Connection, mail_id: UUID, standing: Standing) -> None:
    await conn.execute(
        """
        UPDATE mails SET report = %(event)s, report_kind = %(kind)s, report_reason = %(reason)s, reported_at = now()
         WHERE id = %(id)s
        """,
        {"id": mail_id, **vars(standing)},
    )


async def _suppress(
    conn: Connection, secrets: Secrets, mail: _Mail, report: Report, known: list[Known]
) -> None:
    """Suppress the address of a mail that bounced for good, once for each mail, or that brought a complaint."""
    at = min(report.at, datetime.now(UTC))
    if mail.email_key is None:
        return
    if report.event == "complained":
        await suppression.note_complaint(conn, secrets, mail.email_key, at=at)
    elif report.event == "bounced" and report.kind == "hard":
        hard = [each for each in known if each.event == "bounced" and each.kind == "hard"]
        if len(hard) == 1:
            await suppression.note_bounce(
                conn, secrets, mail.email_key, kind="hard", reason=report.reason, at=at
            )
