"""Moving an account to another address: the new one confirms it, and the old one may stop or undo it for a week.

What the two links prove is derived, and each goes to one address alone. How a move stands is in its row, under the lock
of its user: of several that were asked for the newest alone can be confirmed, and undoing one also voids those after
it, so that whoever took an account over cannot take it back from its owner.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import class_row

from regsvc.accounts.address import Address
from regsvc.accounts.audit import record
from regsvc.accounts.audit.record import By
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.login_attempts import know_client
from regsvc.accounts.registrations.confirmation import (
    PasswordNeededError,
    TokenExpiredError,
    TokenInvalidError,
)
from regsvc.accounts.registrations.registration import KEEP_FINAL, LINK_LIFE
from regsvc.accounts.users.notices import add_notice
from regsvc.accounts.users.password import WrongPasswordError
from regsvc.mail.queue.jobs import DUE_CHANNEL
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import AccountToken, Secrets, mint_account_token

MOVE_LIFE = LINK_LIFE  # from the moment that the mail server accepted the mail
UNDO_LIFE = timedelta(days=7)  # from wish and move: long enough for whoever was away
UNDO_WAIT = timedelta(hours=24)  # from the notice to a new address that has chosen a password since
_UNDO_OPEN = timedelta(days=2)  # after that wait, also beyond the seven days

_CONFIRM, UNDO_USE = "email-change", "email-undo"


class MoveExpiredError(TokenExpiredError):
    """This link is no longer valid. Change the address again, if you still want to."""


class MoveUnprovedError(PasswordNeededError):
    """Log in to the account that gets this address, or give its password."""


@dataclass(frozen=True)
class Move:
    """A move of an account, as it stands.

    Args:
        confirmable: the link to the new address is not too old.
        undoable: nor is the one to the address before.
        email_key: that the account has now.
        disabled: the account is.
    """

    id: UUID
    user_id: UUID
    old_email: str
    old_key: str
    new_email: str
    new_key: str
    state: Literal["asked", "done", "undone", "void"]
    done_at: datetime | None
    confirmable: bool  # its link is not too old
    undoable: bool
    proved_since: bool  # the new address chose a password by a mailed link after the move
    undo_at: datetime | None  # when an undo that waits may be done
    waited: bool
    email_key: str  # that the account has
    disabled: bool


def mint_move_token(secrets: Secrets, move_id: UUID, new_key: str) -> str:
    """Return the token of the link that goes to the new address and confirms a move."""
    return mint_account_token(secrets, _CONFIRM, move_id, new_key)


def mint_undo_token(secrets: Secrets, move_id: UUID, old_key: str) -> str:
    """Return the token of the links that go to the old address and stop or undo a move."""
    return mint_account_token(secrets, UNDO_USE, move_id, old_key)


async def ask_move(
    conn: Connection, mail_id: UUID, user_id: UUID, address: Address, *, password_hash: str, by: By
) -> None:
    """Book the mail that asks another address to confirm a move, and a notice to the present one, in a transaction.

    Whether that address has an account is not looked up; its mail says so when it is taken in hand.

    Args:
        conn: in a transaction.
        mail_id: of the mail.
        user_id: whose account.
        address: where it is to move.
        password_hash: what was verified.
        by: who asks for it.

    Raises:
        WrongPasswordError: the password was changed since it was verified.
    """
    cursor = await conn.execute(
        "SELECT FROM users WHERE id = %(id)s AND password_hash = %(hash)s FOR NO KEY UPDATE",
        {"id": user_id, "hash": password_hash},
    )
    if cursor.rowcount == 0:
        raise WrongPasswordError
    await _void_asked(conn, user_id)
    move_id = uuid4()
    await conn.execute(
        """
        WITH asked AS (
            INSERT INTO address_moves (id, user_id, old_email, old_key, new_email, new_key)
            SELECT %(id)s, id, email, email_key, %(email)s, %(key)s FROM users WHERE id = %(user_id)s
            RETURNING id, user_id, new_email, new_key
        ), added AS (
            INSERT INTO mails (id, kind, user_id, move_id, email, email_key, origin, client)
            SELECT %(mail_id)s, 'email_change', user_id, id, new_email, new_key, %(origin)s, %(client)s FROM asked
        )
        SELECT pg_notify(%(channel)s, '')
        """,
        {
            "id": move_id,
            "user_id": user_id,
            "email": address.email,
            "key": address.key,
            "mail_id": mail_id,
            "origin": by.origin,
            "client": by.client,
            "channel": DUE_CHANNEL,
        },
    )
    await add_notice(conn, user_id, "email_moving", by, move_id=move_id)
    await record.record(conn, "email_change_asked", by, user_id=user_id)


async def find_mover(conn: Connection, secrets: Secrets, token: AccountToken) -> UUID | None:
    """Return whose account a link moves; None when it has moved already.

    Raises:
        TokenInvalidError, MoveExpiredError: as `confirm_move`.
    """
    move = await get_move(conn, token)
    return None if _check_confirm(secrets, token, move) == "done" else move.user_id


async def confirm_move(conn: Connection, secrets: Secrets, token: AccountToken, by: By) -> UUID:
    """Move an account to the address that the link went to, in the caller's transaction, and return whose it is.

    The caller has made sure that the client acts for the account: it is in one of its sessions, or gave its password.
    A reader of the mail who merely presses a button must not take over an account that somebody else knows the password
    of. The address before is told, with a link to undo it. The link again changes nothing.

    Raises:
        TokenInvalidError: no mail of ours had it.
        MoveExpiredError: it is too old or void, or the address has another account by now.
    """
    move = await lock_move(conn, token)
    if _check_confirm(secrets, token, move) == "done":
        return move.user_id
    await add_notice(conn, move.user_id, "email_changed", by, move_id=move.id)  # while it has that address
    await set_address(conn, move.user_id, move.new_email, move.new_key)
    await conn.execute(
        "UPDATE address_moves SET state = 'done', done_at = now() WHERE id = %(id)s", {"id": move.id}
    )
    await know_client(conn, secrets, move.new_key, by)
    await record.record(conn, "email_changed", by, user_id=move.user_id)
    return move.user_id


async def repudiate_move(conn: Connection, secrets: Secrets, token: AccountToken, by: By) -> None:
    """Void a move that the reader of its mail did not ask for, in the caller's transaction.

    For 30 days at most one such mail a day goes to that address. The link again changes nothing.

    Raises:
        TokenInvalidError: no mail of ours had it.
        MoveExpiredError: the account has moved already.
    """
    move = await lock_move(conn, token)
    if not token.proves(secrets, _CONFIRM, move.new_key):
        raise TokenInvalidError
    if move.state == "done":
        raise MoveExpiredError
    if move.state == "asked":
        await _void_asked(conn, move.user_id)
        await record.record(conn, "email_change_repudiated", by, user_id=move.user_id)
    await mail_schedule.quieten(conn, mail_schedule.move_key(secrets, move.new_key))


async def purge_moves(conn: Connection, limit: int) -> int:
    """Delete moves, and their mails, that ended 30 days ago, and return how many."""
    cursor = await conn.execute(
        """
        DELETE FROM address_moves
         WHERE id IN (SELECT id FROM address_moves
                       WHERE asked_at <= now() - %(keep)s AND coalesce(done_at, asked_at) <= now() - %(keep)s
                       ORDER BY asked_at LIMIT %(limit)s
                         FOR UPDATE SKIP LOCKED)
        """,
        {"keep": KEEP_FINAL, "limit": limit},
    )
    return cursor.rowcount


async def get_move(conn: Connection, token: AccountToken) -> Move:
    """Return the move that a link is about, whose proof is not checked.

    Raises:
        TokenInvalidError: there is none.
    """
    async with conn.cursor(row_factory=class_row(Move)) as cursor:
        await cursor.execute(
            """
            SELECT v.id, v.user_id, v.old_email, v.old_key, v.new_email, v.new_key, v.state, v.done_at,
                   coalesce(v.done_at, v.asked_at) > now() - %(undo)s
                       OR coalesce(v.undo_asked_at > now() - %(wait)s - %(open)s, false) AS undoable,
                   v.proved_at IS NOT NULL AS proved_since,
                   v.undo_asked_at + %(wait)s AS undo_at,
                   coalesce(v.undo_asked_at <= now() - %(wait)s, false) AS waited,
                   -- The clock starts when the mail was accepted, or else when it was given up.
                   EXISTS (SELECT FROM mails m
                            WHERE m.move_id = v.id AND m.kind = 'email_change'
                              AND coalesce(m.sent_at, CASE WHEN m.due_at IS NULL THEN m.changed_at ELSE now() END)
                                  > now() - %(life)s) AS confirmable,
                   u.email_key, u.disabled_at IS NOT NULL AS disabled
              FROM address_moves v
              JOIN users u ON u.id = v.user_id
             WHERE v.id = %(id)s
            """,
            {"id": token.id, "life": MOVE_LIFE, "undo": UNDO_LIFE, "wait": UNDO_WAIT, "open": _UNDO_OPEN},
        )
        move = await cursor.fetchone()
    if move is None:
        raise TokenInvalidError
    return move


async def lock_move(conn: Connection, token: AccountToken) -> Move:
    """Return a move as it is once nobody else changes anything about its user."""
    move = await get_move(conn, token)
    await conn.execute("SELECT FROM users WHERE id = %(id)s FOR UPDATE", {"id": move.user_id})
    return await get_move(conn, token)


def _check_confirm(secrets: Secrets, token: AccountToken, move: Move) -> Literal["asked", "done"]:
    if not token.proves(secrets, _CONFIRM, move.new_key):
        raise TokenInvalidError
    if move.disabled or not move.confirmable:
        raise MoveExpiredError
    if move.state == "done" and move.email_key == move.new_key:
        return "done"
    if move.state == "asked" and move.email_key == move.old_key:
        return "asked"
    raise MoveExpiredError


async def _void_asked(conn: Connection, user_id: UUID) -> None:
    await conn.execute(
        "UPDATE address_moves SET state = 'void' WHERE user_id = %(id)s AND state = 'asked'", {"id": user_id}
    )


async def set_address(conn: Connection, user_id: UUID, email: str, email_key: str) -> None:
    """Give an account another address, which is confirmed by that.

    Raises:
        MoveExpiredError: the address has another account.
    """
    try:
        await conn.execute(
            """
            UPDATE users
               SET email = %(email)s, email_key = %(key)s, email_confirmed_at = now(), version = version + 1
             WHERE id = %(id)s
            """,
            {"id": user_id, "email": email, "key": email_key},
        )
    except psycopg.errors.UniqueViolation as error:
        raise MoveExpiredError from error
