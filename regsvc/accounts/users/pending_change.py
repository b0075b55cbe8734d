"""An email change that waits for the new address: what its user is shown of the mail's way."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.users.email_change import CHANGE_LIFE
from regsvc.postgres.connection import Connection


@dataclass(frozen=True)
class PendingChange:
    """An email change whose link was not opened yet.

    Args:
        email: the new address.
        state: of its mail, in the words of a registration.
        reason: why it is delayed or bounced.
        next_try_at: when it is tried again.
        expires_at: the end of the link, once the mail was accepted.
        delivered_at: never known here: it would tell what other mail the address gets.
    """

    email: str
    state: Literal["sending", "sent", "delayed", "bounced"]
    reason: str | None = None
    next_try_at: datetime | None = None
    expires_at: datetime | None = None
    delivered_at: datetime | None = None


async def find_pending(conn: Connection, user_id: UUID) -> PendingChange | None:
    """Return the email change of a user that waits for its confirmation, if there is one.

    A mail that is held back, since its address had others, is shown as sent.
    """
    async with conn.cursor(row_factory=class_row(PendingChange)) as cursor:
        await cursor.execute(
            """
            SELECT a.new_email AS email,
                   CASE WHEN m.silent OR (m.state = 'sent' AND m.report IS DISTINCT FROM 'bounced'
                                          AND m.report IS DISTINCT FROM 'failed') THEN 'sent'
                        WHEN m.state IN ('sent', 'bounced', 'dead') THEN 'bounced'
                        WHEN m.state = 'delayed' THEN 'delayed' ELSE 'sending' END AS state,
                   CASE WHEN NOT m.silent THEN CASE m.state WHEN 'dead' THEN 'gave_up'
                                                            WHEN 'sent' THEN m.report_reason ELSE m.reason END
                    END AS reason,
                   CASE WHEN m.state = 'delayed' AND NOT m.silent THEN m.due_at END AS next_try_at,
                   CASE WHEN m.silent THEN m.changed_at ELSE m.sent_at END + %(life)s AS expires_at
              FROM (SELECT id, new_email FROM address_moves
                     WHERE user_id = %(user_id)s AND state = 'asked' ORDER BY asked_at DESC LIMIT 1) AS a
              JOIN mails m ON m.move_id = a.id AND m.kind = 'email_change' AND m.state <> 'cancelled'
             WHERE m.sent_at IS NULL OR m.sent_at > now() - %(life)s
             ORDER BY m.created_at DESC LIMIT 1
            """,
            {"user_id": user_id, "life": CHANGE_LIFE},
        )
        return await cursor.fetchone()
