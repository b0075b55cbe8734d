"""Undo of an email change by the owner of the old address."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from regsvc.accounts.audit import record
from regsvc.accounts.audit.record import By
from regsvc.accounts.limits.login_attempts import forget_address
from regsvc.accounts.registrations.confirmation import TokenInvalidError
from regsvc.accounts.users.email_change import (
    UNDO_USE,
    EmailChange,
    EmailChangeExpiredError,
    get_change,
    lock_change,
    set_address,
)
from regsvc.accounts.users.notices import add_notice
from regsvc.accounts.users.taking_back import take_back
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import AccountToken, Secrets


async def begin_undo(conn: Connection, secrets: Secrets, token: AccountToken, by: By) -> datetime | None:
    """Check an undo link in the caller's transaction; notify the new address first if its reader uses the account.

    Returns:
        When the undo becomes possible, or None if it is possible now. It is delayed by 24 hours if the reader of
        the new address set a password by mail after the change: the account may hold their data by now.
        The first use of the link sends them a notice.

    Raises:
        TokenInvalidError, EmailChangeExpiredError: as `undo_change`.
    """
    change = await lock_change(conn, token)
    if _check(secrets, token, change) != "done" or not change.proved_since or change.waited:
        return None
    if change.undo_at is not None:
        return change.undo_at
    await conn.execute("UPDATE address_moves SET undo_asked_at = now() WHERE id = %(id)s", {"id": change.id})
    await add_notice(conn, change.user_id, "email_undoing", by)
    await record.record(conn, "email_change_undo_asked", by, user_id=change.user_id)
    return (await get_change(conn, token)).undo_at


async def undo_change(conn: Connection, secrets: Secrets, token: AccountToken, by: By) -> UUID:
    """Restore the old address of an account in the caller's transaction, and return the user's id.

    The person who requested the change knows the password. So all sessions end, the password is voided,
    factors and identities added since the request are removed, and a password reset link is mailed to the old
    address. Idempotent.

    Args:
        conn: in a transaction.
        secrets: derive the token.
        token: from the link.
        by: the audit actor.

    Raises:
        TokenInvalidError: the token was never issued.
        EmailChangeExpiredError: the link expired or is void, or the address has another account.
    """
    change = await lock_change(conn, token)
    state = _check(secrets, token, change)
    if state == "undone":
        return change.user_id
    if state == "done" and change.proved_since and not change.waited:
        raise EmailChangeExpiredError  # the reader of the new address set a password concurrently
    if state == "done":
        await set_address(conn, change.user_id, change.old_email, change.old_key)
    done = await take_back(
        conn,
        secrets,
        change.user_id,
        email_key=change.old_key,
        since=change.asked_at,
        reason="email_change_undone",
        by=by,
    )
    await conn.execute(
        """
        UPDATE address_moves
           SET state = CASE WHEN id = %(id)s THEN 'undone' ELSE 'void' END, done_at = coalesce(done_at, now())
         WHERE user_id = %(user_id)s
           AND (id = %(id)s OR state = 'asked' OR state = 'done' AND done_at >= %(done_at)s)
        """,
        {"id": change.id, "user_id": change.user_id, "done_at": change.done_at},
    )
    await forget_address(conn, secrets, change.new_key)
    await record.record(conn, "email_change_undone", by, user_id=change.user_id, **done)
    return change.user_id


def _check(secrets: Secrets, token: AccountToken, change: EmailChange) -> Literal["asked", "done", "undone"]:
    if not token.proves(secrets, UNDO_USE, change.old_key):
        raise TokenInvalidError
    if change.disabled or not change.undoable:
        raise EmailChangeExpiredError
    if change.state == "done":
        return "done"
    if change.state in {"asked", "undone"} and change.email_key == change.old_key:
        return change.state
    raise EmailChangeExpiredError
