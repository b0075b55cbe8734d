"""Notices: mails that tell an account's owner what happened to it, booked in the transaction of what they tell of."""

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
    """Book a notice to the address that a user has at this moment; where there is no such user, nothing.

    It tells when that happened which it tells of, and from where and with what: that is when it is booked, and by whom.

    Args:
        conn: in the transaction of what it tells of.
        user_id: whom to tell.
        notice: what happened.
        by: who did it.
        move_id: of `email_moving` and `email_changed`: which change, so that it can be undone.
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
