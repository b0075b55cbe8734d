"""A registration while its message is being sent: recipient, contents, and the state that waiting clients see.

An address is looked up here and nowhere earlier: once its message is claimed. Logins by a mailed code are attempts of
the same table (`login_code`), and shown in the same way.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.registrations.registration import (
    ATTEMPT_LIFE,
    LINK_LIFE,
    LOGIN_CODE_LIFE,
    STATE_CHANNEL,
    alive,
)
from regsvc.mail.queue import jobs
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets

# The registrations of some messages; every statement that writes several locks them in the same order.
_LOCKED = f"""
    r.id = ANY(ARRAY(SELECT r.id FROM registrations r JOIN mails m ON r.id = {jobs.ATTEMPT}
                      WHERE m.id = ANY(%(mail_ids)s) ORDER BY r.id FOR NO KEY UPDATE OF r))"""  # noqa: S608 - a constant


@dataclass(frozen=True)
class Letter:
    """The recipient and contents of a claimed message.

    Args:
        mail_id: id of the message.
        registration_id: its sign-up attempt.
        email: recipient.
        email_key: key of the address.
        locale: language of its text.
        origin: network prefix of the client that signed up.
        client: short name of that client's software.
        created_at: when the client signed up.
        sent_as: kind to send.
        admitted: whether its address's turn was taken.
        silent: whether its outcome is hidden: its registration shows another message's.
        insists: whether the holder of the handle asked for it in spite of a bounce.
        is_login: whether the client asked for a login code instead of signing up.
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
    insists: bool = False
    is_login: bool = False

    def turn(self, secrets: Secrets) -> bytes:
        """Return the key of the schedule it follows unless admitted."""
        key = mail_schedule.login_key if self.is_login else mail_schedule.address_key
        return key(secrets, self.email_key)


async def choose_attempts(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Decide the attempts of messages that were requested by address.

    Choose the attempt whose handle the client showed, if it is live and has this address, else the newest live one.
    Without one the message has no attempt and is not sent.
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
    """Show the attempts of these messages as being sent, and return the letters to send.

    The address is looked up here and nowhere earlier: the owner of an account is informed by mail, and no other person
    is. Messages without a live attempt are not returned, nor those whose attempt another transaction holds, perhaps of
    a process that lost power: see `find_wanted`.
    """
    async with conn.cursor(row_factory=class_row(Letter)) as cursor:
        await cursor.execute(
            f"""
            WITH taken AS (
                -- Locked and read again: a concurrent change of address counts. The same order everywhere.
                SELECT m.id AS mail_id, m.admitted, m.silent, m.insists, r.id AS registration_id,
                       m.follows AND r.state = 'sending' AS shown,  -- it still follows a message in hand
                       r.email, coalesce(r.login_key, r.email_key) AS email_key, r.login_key IS NOT NULL AS is_login,
                       r.locale, r.origin, r.client, CASE WHEN r.login_key IS NULL THEN r.created_at
                                                          ELSE m.created_at END AS created_at
                  FROM mails m
                  JOIN registrations r ON r.id = {jobs.ATTEMPT}
                 WHERE m.id = ANY(%(mail_ids)s) AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
                 ORDER BY r.id
                   FOR NO KEY UPDATE OF r SKIP LOCKED
            ), moved AS (
                UPDATE registrations r
                   SET state = 'sending', seq = r.seq + 1, attempts = r.attempts + 1,
                       next_try_at = NULL, reason = NULL, changed_at = now(), delivered_at = NULL,
                       bounce_kind = NULL
                 WHERE r.id IN (SELECT registration_id FROM taken WHERE NOT silent AND NOT shown)
                   AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
                RETURNING r.id, r.seq
            ), told AS MATERIALIZED (
                SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
            )
            SELECT taken.mail_id, taken.registration_id, taken.admitted, taken.silent,
                   taken.insists, taken.is_login,
                   -- A message about an account uses the account's spelling of the address.
                   coalesce(u.email, taken.email) AS email,
                   taken.email_key, taken.locale, taken.origin, taken.client, taken.created_at,
                   CASE WHEN taken.is_login AND (u.id IS NULL OR u.disabled_at IS NOT NULL) THEN 'no_account'
                        WHEN taken.is_login THEN 'login_code'
                        WHEN u.id IS NULL THEN 'confirm' ELSE 'account_exists' END AS sent_as
              FROM taken
              LEFT JOIN users u ON u.email_key = taken.email_key
             WHERE (SELECT count(*) FROM told) >= 0
            """,  # noqa: S608 - a constant
            {"mail_ids": list(mail_ids), "channel": STATE_CHANNEL},
        )
        return await cursor.fetchall()


async def find_wanted(conn: Connection, mail_ids: Collection[UUID]) -> set[UUID]:
    """Return the messages that may still be wanted, because another transaction holds their attempts."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            SELECT m.id
              FROM mails m
              LEFT JOIN registrations r ON r.id = {jobs.ATTEMPT}
             WHERE m.id = ANY(%(mail_ids)s)
               AND (r.state NOT IN ('confirmed', 'expired', 'repudiated')
                    OR (m.kind = 'forgot' AND m.user_id IS NULL
                        AND EXISTS (SELECT FROM users u WHERE u.email_key = m.email_key AND u.disabled_at IS NULL)))
            """,  # noqa: S608 - a constant
            {"mail_ids": list(mail_ids)},
        )
        return set(await cursor.fetchall())


async def show_sent(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Show the attempts of these messages as sent; their links now live 24 h, at most until the attempt's seventh day.

    A final state is kept and only its clock set, so that a link opened before its message was booked works as long as
    any other. A silent message sets nothing: a changed clock would reveal it.
    """
    await conn.execute(
        f"""
        WITH sent AS (
            SELECT DISTINCT {jobs.ATTEMPT} AS registration_id
              FROM mails m WHERE id = ANY(%(mail_ids)s) AND NOT silent
        ), moved AS (
            UPDATE registrations r
               SET state = CASE WHEN r.state = 'confirmed' THEN r.state ELSE 'sent' END,
                   seq = r.seq + 1, next_try_at = NULL, reason = NULL, changed_at = now(), bounce_kind = NULL,
                   expires_at = CASE WHEN r.login_key IS NOT NULL THEN now() + %(login_life)s
                                     ELSE least(now() + %(life)s, r.created_at + %(attempt_life)s) END
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
            "login_life": LOGIN_CODE_LIFE,
            "attempt_life": ATTEMPT_LIFE,
            "channel": STATE_CHANNEL,
        },
    )


async def show_delayed(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Show the attempts of messages booked as delayed as waiting for their next attempt."""
    await conn.execute(
        f"""
        WITH moved AS (
            UPDATE registrations r
               SET state = 'delayed', seq = r.seq + 1, next_try_at = m.due_at, reason = m.reason,
                   changed_at = now()
              FROM mails m
             WHERE m.id = ANY(%(mail_ids)s) AND r.id = {jobs.ATTEMPT} AND m.state = 'delayed' AND NOT m.silent
               AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
               AND {_LOCKED}
            RETURNING r.id, r.seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,  # noqa: S608 - a constant of this module
        {"mail_ids": list(mail_ids), "channel": STATE_CHANNEL},
    )


async def show_bounced(conn: Connection, mail_ids: Sequence[UUID]) -> None:
    """Show the attempts of messages booked as bounced or dead as bounced."""
    await conn.execute(
        f"""
        WITH moved AS (
            UPDATE registrations r
               SET state = 'bounced', seq = r.seq + 1, next_try_at = NULL, changed_at = now(),
                   reason = CASE m.state WHEN 'dead' THEN 'gave_up' ELSE m.reason END
              FROM mails m
             WHERE m.id = ANY(%(mail_ids)s) AND r.id = {jobs.ATTEMPT}
               AND m.state IN ('bounced', 'dead') AND NOT m.silent
               AND r.state NOT IN ('confirmed', 'expired', 'repudiated')
               AND {_LOCKED}
            RETURNING r.id, r.seq
        )
        SELECT pg_notify(%(channel)s, id || ':' || seq) FROM moved
        """,  # noqa: S608 - a constant of this module
        {"mail_ids": list(mail_ids), "channel": STATE_CHANNEL},
    )
