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

SecurityChange: TypeAlias = Literal[
    "totp_added",
    "totp_removed",
    "recovery_codes_renewed",
    "recovery_code_used",
    "recovery_codes_few",
    "factors_guessed",
    "factors_reset",
    "passkey_added",
    "passkey_removed",
    "passkey_copied",
    "identity_added",
    "identity_removed",
    "webhook_added",
    "webhook_changed",
    "webhook_stopped",
]
"""A change of factors or identities; the table `changes` in the texts of mails says it."""

NEW_LOGIN = "new_login"

# Books a notice with a panic link as part of another statement, for each user of `{0}`. Its kind is not `notice`:
# release 0.2.0 would not know what to write.
SECURITY_NOTICE = """
    INSERT INTO mails (id, kind, about, user_id, email, email_key, origin, client, admitted)
    SELECT %(notice_id)s, 'security', %(about)s, u.id, u.email, u.email_key, %(origin)s, %(client)s, true
      FROM {0} JOIN users u ON u.id = %(user_id)s
    RETURNING id
"""


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


async def add_change_notice(conn: Connection, user_id: UUID, about: SecurityChange, by: By) -> None:
    """Book a notice of a change of factors or identities to the user's current address.

    Its panic link removes what was added to the account in this transaction and later (`panic`).

    Args:
        conn: in the transaction of the change.
        user_id: the recipient.
        about: the change.
        by: the audit actor.
    """
    await conn.execute(
        f"""
        WITH added AS ({SECURITY_NOTICE.format("(SELECT) AS one")})
        SELECT pg_notify(%(channel)s, '') FROM added
        """,  # noqa: S608 - a constant of this module
        {
            "notice_id": uuid4(),
            "about": about,
            "user_id": user_id,
            "origin": by.origin,
            "client": by.client,
            "channel": DUE_CHANNEL,
        },
    )


async def tell_admins(conn: Connection, about: SecurityChange, by: By) -> None:
    """Book a notice to each administrator who may log in, in the caller's transaction."""
    cursor = await conn.execute(
        "SELECT id FROM users WHERE role = 'admin' AND disabled_at IS NULL ORDER BY created_at, id LIMIT 100"
    )
    for (user_id,) in await cursor.fetchall():
        await add_change_notice(conn, user_id, about, by)
