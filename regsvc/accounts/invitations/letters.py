"""The mail of an invitation: recipient and contents, decided when a sender claims it.

An address that has an account gets "you already have an account" instead, and nothing shows that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from psycopg.rows import class_row

from regsvc.mail.queue.jobs import SentAs
from regsvc.postgres.connection import Connection


@dataclass(frozen=True)
class InvitationLetter:
    """The recipient and contents of a claimed mail of an invitation; see `Letter`.

    Args:
        invitation_id: the invitation.
    """

    mail_id: UUID
    invitation_id: UUID
    email: str
    email_key: str
    locale: str
    created_at: datetime
    sent_as: SentAs

    origin: ClassVar[str] = ""  # where an administrator is, concerns no other person
    client: ClassVar[str] = ""
    admitted: ClassVar[bool] = True  # an administrator decides when to send
    silent: ClassVar[bool] = False


async def begin_sending_invitations(conn: Connection, mail_ids: Sequence[UUID]) -> list[InvitationLetter]:
    """Return the letters of claimed mails of invitations that are still open."""
    async with conn.cursor(row_factory=class_row(InvitationLetter)) as cursor:
        await cursor.execute(
            """
            SELECT i.mail_id, i.id AS invitation_id, coalesce(u.email, i.email) AS email, i.email_key, i.created_at,
                   coalesce(u.locale, i.locale) AS locale,
                   CASE WHEN u.id IS NULL THEN 'invitation' ELSE 'account_exists' END AS sent_as
              FROM invitations i
              LEFT JOIN users u ON u.email_key = i.email_key
             WHERE i.mail_id = ANY(%(mail_ids)s) AND i.accepted_at IS NULL AND i.revoked_at IS NULL
               AND i.expires_at > now()
            """,
            {"mail_ids": list(mail_ids)},
        )
        return await cursor.fetchall()
