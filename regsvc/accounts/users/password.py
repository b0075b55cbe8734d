"""Password change, and what it ends: sessions, reset links, pending email changes."""

from __future__ import annotations

from uuid import UUID

from regsvc.accounts.audit import record
from regsvc.accounts.audit.record import By
from regsvc.accounts.sessions import session
from regsvc.accounts.users.notices import add_notice
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection


class WrongPasswordError(RegsvcError):
    """The password is wrong."""

    code = "wrong_password"


async def change_password(
    conn: Connection, user_id: UUID, *, old_hash: str, new_hash: str, keep: UUID | None, by: By
) -> None:
    """Change a user's password in the caller's transaction; end all sessions except `keep`.

    Args:
        conn: in a transaction.
        user_id: the user.
        old_hash: the hash that the caller verified.
        new_hash: hash of the new password.
        keep: the session to keep, if any.
        by: the audit actor.

    Raises:
        WrongPasswordError: the password has changed since the caller verified it.
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
    """Store a new password hash in the caller's transaction, and revoke what the old password authorised.

    Revoked are all sessions except `keep`, all password reset links, and all unconfirmed email changes.

    Returns:
        Number of sessions ended.
    """
    await conn.execute(
        "UPDATE users SET password_hash = %(new)s WHERE id = %(id)s", {"id": user_id, "new": new_hash}
    )
    await conn.execute(
        "UPDATE address_moves SET state = 'void' WHERE user_id = %(id)s AND state = 'asked'", {"id": user_id}
    )
    # Leave claimed messages alone: their links are bound to the old password and already dead.
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
