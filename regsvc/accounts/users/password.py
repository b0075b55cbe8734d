"""Setting another password, and what ends with the old one."""

from __future__ import annotations

from uuid import UUID

from regsvc.accounts.audit import record
from regsvc.accounts.audit.record import By
from regsvc.accounts.sessions import session
from regsvc.accounts.users.notices import add_notice
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection


class WrongPasswordError(RegsvcError):
    """This is not your password."""

    code = "wrong_password"


async def change_password(
    conn: Connection, user_id: UUID, *, old_hash: str, new_hash: str, keep: UUID | None, by: By
) -> None:
    """Let a user have another password, in the caller's transaction; of their sessions one goes on at most.

    Args:
        conn: in a transaction.
        user_id: whose password.
        old_hash: what was verified.
        new_hash: to store.
        keep: the session that goes on, if any.
        by: who does it.

    Raises:
        WrongPasswordError: the password was changed since it was verified.
    """
    cursor = await conn.execute(
        "SELECT FROM users WHERE id = %(id)s AND password_hash = %(old)s FOR NO KEY UPDATE",
        {"id": user_id, "old": old_hash},
    )
    if cursor.rowcount == 0:
        raise WrongPasswordError
    ended = await set_password(conn, user_id, new_hash, reason="password_changed", keep=keep)
    await record.record(conn, "password_changed", by, user_id=user_id, sessions_ended=ended)
    await add_notice(conn, user_id, "password_changed", by)


async def set_password(
    conn: Connection, user_id: UUID, new_hash: str, *, reason: str, keep: UUID | None = None
) -> int:
    """Store another password, in the caller's transaction, and end what somebody began who knew the old one.

    That is every session but the one to keep, every link for a new password, and every move to another address that is
    not confirmed yet.

    Returns:
        How many sessions were ended.
    """
    await conn.execute(
        "UPDATE users SET password_hash = %(new)s WHERE id = %(id)s", {"id": user_id, "new": new_hash}
    )
    await conn.execute(
        "UPDATE address_moves SET state = 'void' WHERE user_id = %(id)s AND state = 'asked'", {"id": user_id}
    )
    # What is in hand is left alone: its link is bound to the old password, and is dead on arrival.
    await conn.execute(
        """
        UPDATE mails SET state = 'cancelled', due_at = NULL, reason = %(reason)s, changed_at = now()
         WHERE id IN (SELECT id FROM mails
                       WHERE user_id = %(id)s AND kind = 'forgot' AND state IN ('queued', 'delayed')
                         FOR UPDATE SKIP LOCKED)
        """,
        {"id": user_id, "reason": reason},
    )
    return await session.end_all_sessions(conn, user_id, reason=reason, keep=keep)
