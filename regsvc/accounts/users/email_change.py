"""Email change: the new address confirms it; the old address may stop or undo it for seven days.

The tokens of both links are derived, and each link goes to one address only. The state of an email change is in its
row, under the user's lock. Only the newest change can be confirmed. Undoing a change also voids later ones, so an
attacker who took over an account cannot reclaim it from its owner.
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

CHANGE_LIFE = LINK_LIFE  # from the time the mail server accepts the message
UNDO_LIFE = timedelta(days=7)  # from request and change: long enough for an owner who was away
UNDO_WAIT = timedelta(hours=24)  # from the notice to a new address whose reader has since set a password
UNDO_OPEN = timedelta(days=2)  # after that wait, even beyond the seven days

_CONFIRM, UNDO_USE = "email-change", "email-undo"


class EmailChangeExpiredError(TokenExpiredError):
    """This link is no longer valid. Request the email change again."""


class EmailChangeUnprovedError(PasswordNeededError):
    """Log in to the account that is changing its address, or enter its password."""


@dataclass(frozen=True)
class EmailChange:
    """The state of an email change.

    Args:
        confirmable: the link to the new address has not expired.
        undoable: the link to the old address has not expired.
        email_key: key of the account's current address.
        disabled: whether the account is disabled.
    """

    id: UUID
    user_id: UUID
    old_email: str
    old_key: str
    new_email: str
    new_key: str
    state: Literal["asked", "done", "undone", "void"]
    asked_at: datetime
    done_at: datetime | None
    confirmable: bool  # the confirmation link has not expired
    undoable: bool
    proved_since: bool  # the reader of the new address set a password by a mailed link after the change
    undo_at: datetime | None  # when a delayed undo becomes possible
    waited: bool
    email_key: str  # of the account's current address
    disabled: bool


def mint_change_token(secrets: Secrets, move_id: UUID, new_key: str) -> str:
    """Return the token of the link mailed to the new address, which confirms the email change."""
    return mint_account_token(secrets, _CONFIRM, move_id, new_key)


def mint_undo_token(secrets: Secrets, move_id: UUID, old_key: str) -> str:
    """Return the token of the links mailed to the old address, which stop or undo the email change."""
    return mint_account_token(secrets, UNDO_USE, move_id, old_key)


async def ask_change(
    conn: Connection, mail_id: UUID, user_id: UUID, address: Address, *, password_hash: str, by: By
) -> None:
    """Request an email change: book the confirmation message and a notice to the current address.

    Does not look up whether the new address has an account; the sender decides that when it claims the message.

    Args:
        conn: in a transaction.
        mail_id: id of the confirmation message.
        user_id: the user.
        address: the new address.
        password_hash: the hash that the caller verified.
        by: the audit actor.

    Raises:
        WrongPasswordError: the password has changed since the caller verified it.
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


async def find_changing_user(conn: Connection, secrets: Secrets, token: AccountToken) -> UUID | None:
    """Return the user whose email change a link confirms, or None if it is already confirmed.

    Raises:
        TokenInvalidError, EmailChangeExpiredError: as `confirm_change`.
    """
    change = await get_change(conn, token)
    return None if _check_confirm(secrets, token, change) == "done" else change.user_id


async def confirm_change(conn: Connection, secrets: Secrets, token: AccountToken, by: By) -> UUID:
    """Confirm an email change in the caller's transaction, and return the user's id.

    The caller has verified that the client acts for the account, by session or by password. A reader of the message
    must not take over an account whose password another person knows. The old address is notified, with a link to undo
    the change. Idempotent.

    Raises:
        TokenInvalidError: the token was never issued.
        EmailChangeExpiredError: the link expired or is void, or the address has another account.
    """
    change = await lock_change(conn, token)
    if _check_confirm(secrets, token, change) == "done":
        return change.user_id
    await add_notice(
        conn, change.user_id, "email_changed", by, move_id=change.id
    )  # before the address changes
    await set_address(conn, change.user_id, change.new_email, change.new_key)
    await conn.execute(
        "UPDATE address_moves SET state = 'done', done_at = now() WHERE id = %(id)s", {"id": change.id}
    )
    await know_client(conn, secrets, change.new_key, by)
    await record.record(conn, "email_changed", by, user_id=change.user_id)
    return change.user_id


async def repudiate_change(conn: Connection, secrets: Secrets, token: AccountToken, by: By) -> None:
    """Void an email change that the reader of the message did not request, in the caller's transaction.

    For 30 days at most one such message a day goes to that address. Idempotent.

    Raises:
        TokenInvalidError: the token was never issued.
        EmailChangeExpiredError: the change is already confirmed.
    """
    change = await lock_change(conn, token)
    if not token.proves(secrets, _CONFIRM, change.new_key):
        raise TokenInvalidError
    if change.state == "done":
        raise EmailChangeExpiredError
    if change.state == "asked":
        await _void_asked(conn, change.user_id)
        await record.record(conn, "email_change_repudiated", by, user_id=change.user_id)
    await mail_schedule.quieten(conn, mail_schedule.change_key(secrets, change.new_key))


async def purge_changes(conn: Connection, limit: int) -> int:
    """Delete email changes that ended 30 days ago, with their messages, and return the count."""
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


async def get_change(conn: Connection, token: AccountToken) -> EmailChange:
    """Return the email change of a token without checking the token's proof.

    Raises:
        TokenInvalidError: no such email change.
    """
    async with conn.cursor(row_factory=class_row(EmailChange)) as cursor:
        await cursor.execute(
            """
            SELECT v.id, v.user_id, v.old_email, v.old_key, v.new_email, v.new_key, v.state, v.asked_at,
                   v.done_at,
                   coalesce(v.done_at, v.asked_at) > now() - %(undo)s
                       OR coalesce(v.undo_asked_at > now() - %(wait)s - %(open)s, false) AS undoable,
                   v.proved_at IS NOT NULL AS proved_since,
                   v.undo_asked_at + %(wait)s AS undo_at,
                   coalesce(v.undo_asked_at <= now() - %(wait)s, false) AS waited,
                   -- The lifetime starts when the message was accepted, or else when it was given up.
                   EXISTS (SELECT FROM mails m
                            WHERE m.move_id = v.id AND m.kind = 'email_change'
                              AND coalesce(m.sent_at, CASE WHEN m.due_at IS NULL THEN m.changed_at ELSE now() END)
                                  > now() - %(life)s) AS confirmable,
                   u.email_key, u.disabled_at IS NOT NULL AS disabled
              FROM address_moves v
              JOIN users u ON u.id = v.user_id
             WHERE v.id = %(id)s
            """,
            {"id": token.id, "life": CHANGE_LIFE, "undo": UNDO_LIFE, "wait": UNDO_WAIT, "open": UNDO_OPEN},
        )
        change = await cursor.fetchone()
    if change is None:
        raise TokenInvalidError
    return change


async def lock_change(conn: Connection, token: AccountToken) -> EmailChange:
    """Return an email change after locking its user."""
    change = await get_change(conn, token)
    await conn.execute("SELECT FROM users WHERE id = %(id)s FOR UPDATE", {"id": change.user_id})
    return await get_change(conn, token)


def _check_confirm(secrets: Secrets, token: AccountToken, change: EmailChange) -> Literal["asked", "done"]:
    if not token.proves(secrets, _CONFIRM, change.new_key):
        raise TokenInvalidError
    if change.disabled or not change.confirmable:
        raise EmailChangeExpiredError
    if change.state == "done" and change.email_key == change.new_key:
        return "done"
    if change.state == "asked" and change.email_key == change.old_key:
        return "asked"
    raise EmailChangeExpiredError


async def _void_asked(conn: Connection, user_id: UUID) -> None:
    await conn.execute(
        "UPDATE address_moves SET state = 'void' WHERE user_id = %(id)s AND state = 'asked'", {"id": user_id}
    )


async def set_address(conn: Connection, user_id: UUID, email: str, email_key: str) -> None:
    """Set the confirmed address of an account.

    Raises:
        EmailChangeExpiredError: another account has this address.
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
        raise EmailChangeExpiredError from error
