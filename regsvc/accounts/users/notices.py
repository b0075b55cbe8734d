"""Notices: messages that tell an account's owner of an event, booked in the event's transaction."""

from __future__ import annotations

from typing import Literal, TypeAlias
from uuid import UUID, uuid4

from regsvc.accounts.audit.record import By
from regsvc.mail.queue.jobs import DUE_CHANNEL
from regsvc.postgres.connection import Connection

Notice: TypeAlias = Literal[
    "password_changed",
    "password_reset_done",
    "refresh_token_reused",
    "email_moving",
    "email_changed",
    "email_undoing",
]


async def add_notice(
    conn: Connection, user_id: UUID, notice: Notice, by: By, *, move_id: UUID | None = None
) -> None:
    """Book a notice to the user's current address; do nothing if there is no such user.

    The notice shows time, network and client of the event: the time of the booking and the origin in `by`.

    Args:
        conn: in the transaction of the event.
        user_id: the recipient.
        notice: kind of event.
        by: the audit actor.
        move_id: of `email_moving` and `email_changed`: the email change, for its undo link.
    """
    await conn.execute(
        """
        WITH added AS (
            INSERT INTO mails (id, kind, notice, user_id, move_id, email, email_key, origin, client, admitted)
            SELECT %(id)s, 'notice', %(notice)s, id, %(move_id)s, email, email_key, %(origin)s, %(client)s, true
              FROM users
             WHERE id = %(user_id)s
            RETURNING id
        )
        SELECT pg_notify(%(channel)s, '') FROM added
        """,
        {
            "id": uuid4(),
            "notice": notice,
            "user_id": user_id,
            "move_id": move_id,
            "origin": by.origin,
            "client": by.client,
            "channel": DUE_CHANNEL,
        },
    )
