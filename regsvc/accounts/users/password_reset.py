"""Password reset by a link mailed to the address.

The token of the link is the message's id and a MAC over the user and the old password's hash. Nothing of it is stored,
and any later change of the password voids the link.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.audit import record
from regsvc.accounts.audit.record import By
from regsvc.accounts.limits.login_attempts import forget_address, know_client
from regsvc.accounts.registrations.confirmation import TokenExpiredError, TokenInvalidError
from regsvc.accounts.users.notices import add_notice
from regsvc.accounts.users.password import set_password
from regsvc.mail.queue.jobs import DUE_CHANNEL
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import AccountToken, Secrets, mint_account_token

RESET_LIFE = timedelta(minutes=30)  # from the time the mail server accepts the message

_USE = "password-reset"


class ResetExpiredError(TokenExpiredError):
    """This link is no longer valid. Request a new one."""


@dataclass(frozen=True)
class ResetSubject:
    """The account a reset link belongs to, with what the password policy compares."""

    user_id: UUID
    email: str
    email_key: str
    name: str


@dataclass(frozen=True, repr=False)
class _Account:
    user_id: UUID
    email: str
    email_key: str
    name: str
    password_hash: str
    alive: bool


async def add_forgot(
    conn: Connection, mail_id: UUID, email_key: str, by: By, *, admitted: bool = False
) -> None:
    """Book the password reset message requested for an address, due now, and wake the workers.

    The account is looked up when the message is claimed. Unless `admitted`, the message follows the address's schedule.
    """
    await conn.execute(
        """
        WITH added AS (
            INSERT INTO mails (id, kind, email_key, origin, client, admitted)
            VALUES (%(id)s, 'forgot', %(email_key)s, %(origin)s, %(client)s, %(admitted)s)
        )
        SELECT pg_notify(%(channel)s, '')
        """,
        {
            "id": mail_id,
            "email_key": email_key,
            "origin": by.origin,
            "client": by.client,
            "admitted": admitted,
            "channel": DUE_CHANNEL,
        },
    )


def mint_reset_token(
    secrets: Secrets, mail_id: UUID, *, user_id: UUID, email_key: str, password_hash: str
) -> str:
    """Return the token of a reset link: valid for this user, address and password hash."""
    return mint_account_token(secrets, _USE, mail_id, str(user_id), email_key, password_hash)


async def find_reset_subject(conn: Connection, secrets: Secrets, token: AccountToken) -> ResetSubject:
    """Return the account whose password a link may reset.

    Raises:
        TokenInvalidError: the token was never issued.
        ResetExpiredError: expired, used, or the account's password or address has changed.
    """
    return await _open(conn, secrets, token)


async def reset_password(
    conn: Connection, secrets: Secrets, token: AccountToken, new_hash: str, by: By
) -> None:
    """Reset the password by a mailed link, in the caller's transaction.

    All sessions end. The link proves that its reader owns the address, so their client is trusted from now on and not
    delayed by strangers' login attempts. Earlier trusted clients are forgotten: one of them may be the reason for the
    reset.

    Raises:
        TokenInvalidError, ResetExpiredError: as `find_reset_subject`.
    """
    found = await _open(conn, secrets, token, lock=True)
    ended = await set_password(conn, found.user_id, new_hash, reason="password_reset")
    await conn.execute("UPDATE users SET email_confirmed_at = now() WHERE id = %(id)s", {"id": found.user_id})
    # The reader of the new address now uses the account: an undo of the email change must notify them first.
    await conn.execute(
        "UPDATE address_moves SET proved_at = now() WHERE user_id = %(id)s AND state = 'done'",
        {"id": found.user_id},
    )
    await forget_address(conn, secrets, found.email_key)
    await know_client(conn, secrets, found.email_key, by)
    await record.record(conn, "password_reset", by, user_id=found.user_id, sessions_ended=ended)
    await add_notice(conn, found.user_id, "password_reset_done", by)


async def _open(
    conn: Connection, secrets: Secrets, token: AccountToken, *, lock: bool = False
) -> ResetSubject:
    """Return the account whose password a link may reset; `lock` blocks concurrent resets."""
    async with conn.cursor(row_factory=class_row(_Account)) as cursor:
        await cursor.execute(
            f"""
            SELECT u.id AS user_id, u.email, u.email_key, u.name, u.password_hash,
                   u.email_key = m.email_key AND u.disabled_at IS NULL
                   -- The lifetime starts when the message was accepted, or else when it was given up.
                   AND coalesce(m.sent_at, CASE WHEN m.due_at IS NULL THEN m.changed_at ELSE now() END)
                       > now() - %(life)s AS alive
              FROM mails m
              JOIN users u ON u.id = m.user_id
             WHERE m.id = %(id)s AND m.kind = 'forgot'
             {"FOR NO KEY UPDATE OF u" if lock else ""}
            """,  # noqa: S608 - a literal
            {"id": token.id, "life": RESET_LIFE},
        )
        found = await cursor.fetchone()
    if found is None:
        raise TokenInvalidError
    # A used link proves nothing: its password has been replaced.
    bound = (str(found.user_id), found.email_key, found.password_hash)
    if not found.alive or not token.proves(secrets, _USE, *bound):
        raise ResetExpiredError
    return ResetSubject(found.user_id, found.email, found.email_key, found.name)
