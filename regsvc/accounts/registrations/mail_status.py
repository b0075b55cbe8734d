"""A registration while its mail is being sent: whom the mail goes to, and what whoever waits is shown of it.

Here, and nowhere before, an address is looked up: once its mail is taken in hand.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.registrations.registration import ATTEMPT_LIFE, LINK_LIFE, STATE_CHANNEL, alive
from regsvc.mail.queue import jobs
from regsvc.postgres.connection import Connection

# The registrations of some mails, locked in one order by every statement that writes several of them.
_LOCKED = """
    r.id = ANY(ARRAY(SELECT r.id FROM registrations r JOIN mails m ON m.registration_id = r.id
                      WHERE m.id = ANY(%(mail_ids)s) ORDER BY r.id FOR NO KEY UPDATE OF r))"""


@dataclass(frozen=True)
class Letter:
    """Whom a mail in hand goes to, and what it has to say.

    Args:
        mail_id: the mail.
        registration_id: the attempt that it is for.
        email: where it goes.
        email_key: the address as it is compared.
        locale: of its words.
        origin: the network prefix that the attempt came from.
        client: a short word for the software that it came from.
        created_at: when the attempt came.
        sent_as: what it becomes.
        admitted: it has had its address's turn.
        silent: what becomes of it is shown to nobody: its registration has walked on.
    """

    mail_id: UUID
    registration_id: UUID
    email: str
    email_key: str
    locale: str
    origin: str
    client: str
    created_at: datetime
    sent_as: jobs.SentAs
    admitted: bool
    silent: bool


async def choose_attempts(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Decide whose mails are those that were asked for by address alone.

    The attempt whose handle was shown, if it is of that address and lives, else the newest one that does. Where there
    is none the mail stays nobody's, and is not sent.
    """
    await conn.execute(
        f"""
        UPDATE mails m
           SET registration_id = (
                   SELECT r.id FROM registrations r
                    WHERE r.email_key = m.email_key AND r.state <> 'confirmed' AND {alive("r")}
                    ORDER BY r.id IS NOT DISTINCT FROM m.wanted DESC, r.created_at DESC
                    LIMIT 1)
         WHERE m.id = ANY(%(mail_ids)s) AND m.registration_id IS NULL AND m.kind = 'resend'
        """,  # noqa: S608 - a constant of our own
        {"mail_ids": list(mail_ids)},
    )


async def begin_sending(conn: Connection, mail_ids: Sequence[UUID]) -> list[Letter]:
    """Show the attempts of these mails as being sent and return what to send.

    Here, and nowhere before, the address is looked up: whoever has an account is told so by mail, and nobody else
    is told anything. A mail whose attempt is over, or that is nobody's, is not returned; nor is one whose attempt
    another transaction holds, which may be that of a process that lost power: see `find_wanted`.
    """
    async with conn.cursor(row_factory=class_row(Letter)) as cursor:
        await cursor.execute(
            """
            WITH taken AS (
                -- Locked as it is now: an address that is being changed is the new one. In one order for all.
                SELECT m.id AS mail_id, m.admitted, m.silent, r.id AS registration_id,
                       m.follows AND r.state = 'sending' AS shown,  -- it still follows a mail that is in hand
                       r.email, r.email_key, r.locale, r.origin, r.client, r.created_at
                  FROM mails m
                  JOIN registrations r ON r.id = m.registration_id
                 WHERE m.id = ANY(%(mail_ids)s) AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
                 ORDER BY r.id
                   FOR NO KEY UPDATE OF r SKIP LOCKED
            ), moved AS (
                UPDATE registrations r
                   SET state = 'sending', seq = r.seq + 1, attempts = r.attempts + 1,
                       next_try_at = NULL, reason = NULL, changed_at = now()
                 WHERE r.id IN (SELECT registration_id FROM taken WHERE NOT silent AND NOT shown)
                   AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
                RETURNING r.id, r.seq
            ), told AS MATERIALIZED (
                SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
            )
            SELECT taken.mail_id, taken.registration_id, taken.admitted, taken.silent,
                   -- A mail about an account goes to the spelling that the account has.
                   coalesce(u.email, taken.email) AS email,
                   taken.email_key, taken.locale, taken.origin, taken.client, taken.created_at,
                   CASE WHEN u.id IS NULL THEN 'confirm' ELSE 'account_exists' END AS sent_as
              FROM taken
              LEFT JOIN users u ON u.email_key = taken.email_key
             WHERE (SELECT count(*) FROM told) >= 0
            """,
            {"mail_ids": list(mail_ids), "channel": STATE_CHANNEL},
        )
        return await cursor.fetchall()


async def find_wanted(conn: Connection, mail_ids: Collection[UUID]) -> set[UUID]:
    """Return those of these mails that somebody may still want, of which another transaction decides."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            SELECT m.id
              FROM mails m
              LEFT JOIN registrations r ON r.id = m.registration_id
             WHERE m.id = ANY(%(mail_ids)s)
               AND (r.state NOT IN ('confirmed', 'expired', 'repudiated')
                    OR (m.kind = 'forgot' AND m.user_id IS NULL
                        AND EXISTS (SELECT FROM users u WHERE u.email_key = m.email_key AND u.disabled_at IS NULL)))
            """,
            {"mail_ids": list(mail_ids)},
        )
        return set(await cursor.fetchall())


async def show_sent(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Show the attempts of these mails as sent; from now on their links live 24 h, or to the attempt's seventh day.

    A final state stays as it is, only its clock is set: a link that was pressed while the booking of its mail was
    still on its way answers as long as any other. A silent mail sets nothing: a clock that moved would tell of it.
    """
    await conn.execute(
        f"""
        WITH sent AS (
            SELECT DISTINCT registration_id FROM mails WHERE id = ANY(%(mail_ids)s) AND NOT silent
        ), moved AS (
            UPDATE registrations r
               SET state = CASE WHEN r.state = 'confirmed' THEN r.state ELSE 'sent' END,
                   seq = r.seq + 1, next_try_at = NULL, reason = NULL, changed_at = now(),
                   expires_at = least(now() + %(life)s, r.created_at + %(attempt_life)s)
              FROM sent
             WHERE r.id = sent.registration_id AND r.state NOT IN ('expired', 'repudiated')
               AND {_LOCKED}
            RETURNING r.id, r.seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,  # noqa: S608 - a constant of this module
        {
            "mail_ids": list(mail_ids),
            "life": LINK_LIFE,
            "attempt_life": ATTEMPT_LIFE,
            "channel": STATE_CHANNEL,
        },
    )


async def show_delayed(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Show the attempts of these mails, booked as delayed before, as waiting for their next try."""
    await conn.execute(
        f"""
        WITH moved AS (
            UPDATE registrations r
               SET state = 'delayed', seq = r.seq + 1, next_try_at = m.due_at, reason = m.reason,
                   changed_at = now()
              FROM mails m
             WHERE m.id = ANY(%(mail_ids)s) AND r.id = m.registration_id AND m.state = 'delayed' AND NOT m.silent
               AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
               AND {_LOCKED}
            RETURNING r.id, r.seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,  # noqa: S608 - a constant of this module
        {"mail_ids": list(mail_ids), "channel": STATE_CHANNEL},
    )


async def show_bounced(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Show the attempts of these mails, booked as bounced or dead before, as bounced."""
    await conn.execute(
        f"""
        WITH moved AS (
            UPDATE registrations r
               SET state = 'bounced', seq = r.seq + 1, next_try_at = NULL, changed_at = now(),
                   reason = CASE m.state WHEN 'dead' THEN 'gave_up' ELSE m.reason END
              FROM mails m
             WHERE m.id = ANY(%(mail_ids)s) AND r.id = m.registration_id
               AND m.state IN ('bounced', 'dead') AND NOT m.silent
               AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
               AND {_LOCKED}
            RETURNING r.id, r.seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,  # noqa: S608 - a constant of this module
        {"mail_ids": list(mail_ids), "channel": STATE_CHANNEL},
    )
