"""The panic link of security notices: the owner takes the account back as it was before the notice.

The token is derived from the notice and bound to the address that it was mailed to; it works once, for seven days. What
the owner's mailbox may undo is what the undo of an email change may (`email_undo`), with the same wait where the
reader of a new address uses the account.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.limits.login_attempts import forget_address
from regsvc.accounts.registrations.confirmation import TokenExpiredError, TokenInvalidError
from regsvc.accounts.users.email_change import UNDO_OPEN, UNDO_WAIT, set_address
from regsvc.accounts.users.notices import add_notice
from regsvc.accounts.users.taking_back import take_back
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import AccountToken, Secrets, mint_account_token

PANIC_LIFE = timedelta(days=7)  # from the event of which the notice tells

_USE = "panic"
_MOST = 20  # email changes looked at; the schedule of a user allows fewer


class PanicExpiredError(TokenExpiredError):
    """This link was used or is no longer valid. Choose a new password if you do not trust your account."""


@dataclass(frozen=True)
class _Notice:
    id: UUID
    user_id: UUID
    email_key: str  # that it was mailed to
    at: datetime
    used: bool
    recent: bool
    account_key: str  # of the account's address now
    disabled: bool


@dataclass(frozen=True)
class _Change:
    """An email change since the notice."""

    id: UUID
    old_email: str
    old_key: str
    new_key: str
    proved: bool  # the reader of a new address set a password by a mailed link
    undo_at: datetime | None
    waited: bool
    open: bool  # the wait is over, and not for long


def mint_panic_token(secrets: Secrets, mail_id: UUID, user_id: UUID, email_key: str) -> str:
    """Return the token of the panic link in a notice."""
    return mint_account_token(secrets, _USE, mail_id, str(user_id), email_key)


async def begin_panic(conn: Connection, secrets: Secrets, token: AccountToken, by: By) -> datetime | None:
    """Check a panic link in the caller's transaction; notify a new address first if its reader uses the account.

    Returns:
        When the link can be used, or None if it can be used now; see `email_undo.begin_undo`.

    Raises:
        TokenInvalidError, PanicExpiredError: as `panic`.
    """
    notice, changes = await _open(conn, secrets, token)
    if not _must_wait(changes):
        return None
    first = changes[0]
    if first.undo_at is not None:
        return first.undo_at
    await conn.execute("UPDATE address_moves SET undo_asked_at = now() WHERE id = %(id)s", {"id": first.id})
    await add_notice(conn, notice.user_id, "email_undoing", by)
    await record(conn, "email_change_undo_asked", by, user_id=notice.user_id)
    _, changes = await _open(conn, secrets, token)
    return changes[0].undo_at


async def panic(conn: Connection, secrets: Secrets, token: AccountToken, by: By) -> UUID:
    """Take an account back in the caller's transaction, and return the user's id.

    Its address becomes again the one that the notice was mailed to; then as `taking_back.take_back`.

    Args:
        conn: in a transaction.
        secrets: derive the token.
        token: from the link.
        by: the audit actor.

    Raises:
        TokenInvalidError: the token was never issued.
        PanicExpiredError: used, too old, or the account has gone other ways since.
    """
    notice, changes = await _open(conn, secrets, token)
    if _must_wait(changes):
        raise PanicExpiredError  # the reader of the new address set a password concurrently
    if changes:
        await set_address(conn, notice.user_id, changes[0].old_email, changes[0].old_key)
        await conn.execute(
            "UPDATE address_moves SET state = 'undone' WHERE id = ANY(%(ids)s)",
            {"ids": [change.id for change in changes]},
        )
        for change in changes:
            await forget_address(conn, secrets, change.new_key)
    done = await take_back(
        conn,
        secrets,
        notice.user_id,
        email_key=notice.email_key,
        since=notice.at,
        reason="panic",
        by=by,
    )
    await conn.execute("UPDATE mails SET used_at = now() WHERE id = %(id)s", {"id": notice.id})
    await record(
        conn, "account_taken_back", by, user_id=notice.user_id, address_restored=bool(changes), **done
    )
    return notice.user_id


def _must_wait(changes: list[_Change]) -> bool:
    return any(change.proved for change in changes) and not changes[0].waited


async def _open(conn: Connection, secrets: Secrets, token: AccountToken) -> tuple[_Notice, list[_Change]]:
    """Return a notice and the email changes to undo, the oldest first, after locking the user.

    Raises:
        TokenInvalidError, PanicExpiredError: as `panic`.
    """
    found = await _get_notice(conn, token)
    if not token.proves(secrets, _USE, str(found.user_id), found.email_key):
        raise TokenInvalidError
    await conn.execute("SELECT FROM users WHERE id = %(id)s FOR UPDATE", {"id": found.user_id})
    notice = await _get_notice(conn, token)
    if notice.used or notice.disabled:
        raise PanicExpiredError
    if notice.account_key == notice.email_key:
        if not notice.recent:
            raise PanicExpiredError
        return notice, []
    changes = await _list_changes(conn, notice)
    if not changes or changes[0].old_key != notice.email_key or not (notice.recent or changes[0].open):
        raise PanicExpiredError
    return notice, changes


async def _get_notice(conn: Connection, token: AccountToken) -> _Notice:
    async with conn.cursor(row_factory=class_row(_Notice)) as cursor:
        await cursor.execute(
            """
            SELECT m.id, m.user_id, m.email_key, m.created_at AS at, m.used_at IS NOT NULL AS used,
                   m.created_at > now() - %(life)s AS recent, u.email_key AS account_key,
                   u.disabled_at IS NOT NULL AS disabled
              FROM mails m JOIN users u ON u.id = m.user_id
             WHERE m.id = %(id)s AND m.kind = 'security'
            """,
            {"id": token.id, "life": PANIC_LIFE},
        )
        notice = await cursor.fetchone()
    if notice is None:
        raise TokenInvalidError
    return notice


async def _list_changes(conn: Connection, notice: _Notice) -> list[_Change]:
    """Return the email changes since a notice, the oldest first."""
    async with conn.cursor(row_factory=class_row(_Change)) as cursor:
        await cursor.execute(
            """
            SELECT id, old_email, old_key, new_key, proved_at IS NOT NULL AS proved,
                   undo_asked_at + %(wait)s AS undo_at, coalesce(undo_asked_at <= now() - %(wait)s, false) AS waited,
                   coalesce(undo_asked_at > now() - %(wait)s - %(open)s, false) AS open
              FROM address_moves
             WHERE user_id = %(user_id)s AND state = 'done' AND done_at >= %(since)s
             ORDER BY done_at LIMIT %(most)s
            """,
            {
                "user_id": notice.user_id,
                "since": notice.at,
                "wait": UNDO_WAIT,
                "open": UNDO_OPEN,
                "most": _MOST,
            },
        )
        return await cursor.fetchall()
