"""Undoing the move of an account to another address, for whoever reads the mail at the one before."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from regsvc.accounts.audit import record
from regsvc.accounts.audit.record import By
from regsvc.accounts.limits.login_attempts import forget_address, know_client
from regsvc.accounts.registrations.confirmation import TokenInvalidError
from regsvc.accounts.users import password_reset
from regsvc.accounts.users.email_change import (
    UNDO_USE,
    Move,
    MoveExpiredError,
    get_move,
    lock_move,
    set_address,
)
from regsvc.accounts.users.notices import add_notice
from regsvc.accounts.users.password import set_password
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import AccountToken, Secrets


async def begin_undo(conn: Connection, secrets: Secrets, token: AccountToken, by: By) -> datetime | None:
    """Check that a link undoes a move, or did, in the caller's transaction; a new address in use is told first.

    Returns:
        When the undo may be done, if it has to wait; None if it may be done now. It waits for a day where the owner of
        the new mailbox has chosen a password by mail since the move: they may have their data in the account by now.
        The first use of the link mails them a notice.

    Raises:
        TokenInvalidError, MoveExpiredError: as `undo_move`.
    """
    move = await lock_move(conn, token)
    if _check(secrets, token, move) != "done" or not move.proved_since or move.waited:
        return None
    if move.undo_at is not None:
        return move.undo_at
    await conn.execute("UPDATE address_moves SET undo_asked_at = now() WHERE id = %(id)s", {"id": move.id})
    await add_notice(conn, move.user_id, "email_undoing", by)
    await record.record(conn, "email_change_undo_asked", by, user_id=move.user_id)
    return (await get_move(conn, token)).undo_at


async def undo_move(
    conn: Connection, secrets: Secrets, token: AccountToken, unknown_hash: str, by: By
) -> UUID:
    """Give an account its address back, or let it stay there, in the caller's transaction, and return whose it is.

    Whoever moves it knows its password. So every session ends, nobody knows the password any more, and the address is
    sent a link to choose a new one. The link again changes nothing.

    Args:
        conn: in a transaction.
        secrets: what the link was made with.
        token: of the link.
        unknown_hash: of a password that nobody knows.
        by: who asks for it.

    Raises:
        TokenInvalidError: no mail of ours had it.
        MoveExpiredError: it is too old or void, or the address has another account by now.
    """
    move = await lock_move(conn, token)
    state = _check(secrets, token, move)
    if state == "undone":
        return move.user_id
    if state == "done" and move.proved_since and not move.waited:
        raise MoveExpiredError  # a password was chosen at the new address at this moment
    if state == "done":
        await set_address(conn, move.user_id, move.old_email, move.old_key)
    ended = await set_password(conn, move.user_id, unknown_hash, reason="email_change_undone")
    await conn.execute(
        """
        UPDATE address_moves
           SET state = CASE WHEN id = %(id)s THEN 'undone' ELSE 'void' END, done_at = coalesce(done_at, now())
         WHERE user_id = %(user_id)s
           AND (id = %(id)s OR state = 'asked' OR state = 'done' AND done_at >= %(done_at)s)
        """,
        {"id": move.id, "user_id": move.user_id, "done_at": move.done_at},
    )
    for key in (move.new_key, move.old_key):
        await forget_address(conn, secrets, key)
    await know_client(conn, secrets, move.old_key, by)
    await record.record(conn, "email_change_undone", by, user_id=move.user_id, sessions_ended=ended)
    await password_reset.add_forgot(conn, uuid4(), move.old_key, by, admitted=True)
    return move.user_id


def _check(secrets: Secrets, token: AccountToken, move: Move) -> Literal["asked", "done", "undone"]:
    if not token.proves(secrets, UNDO_USE, move.old_key):
        raise TokenInvalidError
    if move.disabled or not move.undoable:
        raise MoveExpiredError
    if move.state == "done":
        return "done"
    if move.state in {"asked", "undone"} and move.email_key == move.old_key:
        return move.state
    raise MoveExpiredError
