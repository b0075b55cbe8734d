"""Show registrations what reports say about their mail.

An attempt shows the fate of its newest mail. If that mail was not sent, because another one has the address's turn, it
shows the fate of that one. If it was not sent because its address is suppressed, it shows what that means, and follows
no other mail. Nothing leaves a final state, and `seq` rises only if something shown changes.
"""

from __future__ import annotations

from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.registrations.registration import STATE_CHANNEL
from regsvc.mail.queue.jobs import ATTEMPT
from regsvc.mail.reports.standing import Standing
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets

# The newest mail of an attempt to its present address. One that gave way to a newer held one still follows.
_CURRENT = """
    SELECT m.id, m.state, m.silent, m.reason FROM mails m
     WHERE {0} = r.id AND (m.state <> 'cancelled' OR m.silent) AND m.created_at >= r.address_since
     ORDER BY m.created_at DESC, m.id LIMIT 1"""
_OF_SIGNUP = _CURRENT.format("m.registration_id")
_OF_LOGIN = _CURRENT.format("m.kind = 'login' AND m.wanted")


async def find_showing(conn: Connection, secrets: Secrets, mail_id: UUID) -> list[UUID]:
    """Lock and return the live attempts that show the fate of a sent mail, in the order of their ids.

    Args:
        conn: in a transaction.
        secrets: derive the key of the address's schedule.
        mail_id: the mail.
    """
    async with conn.cursor() as rows:
        await rows.execute(
            f"""
            SELECT coalesce(m.email_key, r.email_key), m.kind = 'login'
              FROM mails m JOIN registrations r ON r.id = {ATTEMPT}
             WHERE m.id = %(id)s AND m.created_at >= r.address_since
            """,  # noqa: S608 - a constant
            {"id": mail_id},
        )
        found = await rows.fetchone()
    if found is None:
        return []
    email_key, is_login = found
    column, current = ("login_key", _OF_LOGIN) if is_login else ("email_key", _OF_SIGNUP)
    schedule = mail_schedule.login_key if is_login else mail_schedule.address_key
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            SELECT r.id
              FROM registrations r
             WHERE r.id = ANY(ARRAY(
                       SELECT r.id
                         FROM registrations r CROSS JOIN LATERAL ({current}) AS current
                        WHERE r.{column} = %(email_key)s AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
                          AND CASE WHEN current.silent
                                   THEN current.reason IS DISTINCT FROM 'suppressed'
                                    AND EXISTS (SELECT FROM mail_schedules s
                                                 WHERE s.key = %(key)s AND s.mail_id = %(id)s)
                                   ELSE current.id = %(id)s AND current.state = 'sent' END))
             ORDER BY r.id FOR NO KEY UPDATE OF r
            """,  # noqa: S608 - a constant of this module
            {"id": mail_id, "email_key": email_key, "key": schedule(secrets, email_key)},
        )
        return await cursor.fetchall()


async def show_standing(
    conn: Connection, registration_ids: list[UUID], standing: Standing, *, deliveries_shown: bool
) -> int:
    """Show attempts where their mail is, and return how many changed.

    Args:
        conn: in the transaction of the report.
        registration_ids: the attempts, locked by the caller.
        standing: the fate of the mail.
        deliveries_shown: whether `delivered_at` is shown for the receiver's family.
    """
    if not registration_ids:
        return 0
    state = {"delivered": "sent", "deferred": "delayed"}.get(standing.event, "bounced")
    cursor = await conn.execute(
        """
        WITH moved AS (
            UPDATE registrations r
               SET state = %(state)s, seq = r.seq + 1, changed_at = now(), next_try_at = NULL,
                   reason = %(reason)s, bounce_kind = %(kind)s,
                   delivered_at = CASE WHEN %(delivered)s THEN coalesce(r.delivered_at, now()) END
             WHERE r.id = ANY(%(ids)s) AND r.state IN ('sent', 'delayed', 'bounced') AND r.expires_at IS NOT NULL
               AND (r.state, r.reason, r.bounce_kind, r.delivered_at IS NOT NULL)
                   IS DISTINCT FROM (%(state)s, %(reason)s, %(kind)s, %(delivered)s)
            RETURNING r.id, r.seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,
        {
            "ids": registration_ids,
            "state": state,
            "reason": None if state == "sent" else standing.reason or "other",
            "kind": (standing.kind or "soft") if state == "bounced" else None,
            "delivered": state == "sent" and deliveries_shown,
            "channel": STATE_CHANNEL,
        },
    )
    return cursor.rowcount
