"""Passwords that were forgotten: a link to the address, and a new password for whoever opens it.

The link's token is the mail's id and a MAC over whom it is for and the hash of the password that was forgotten. Nothing
of it is stored, and once another password is set, by this link or in any other way, no such link is good any more.
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

RESET_LIFE = timedelta(minutes=30)  # from the moment that the mail server accepted the mail

_USE = "password-reset"


class ResetExpiredError(TokenExpiredError):
    """This link is no longer valid. Ask for a new one."""


@dataclass(frozen=True)
class Forgetful:
    """Who forgot their password: what a new one is held against."""

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
    """Insert the mail that somebody asked for by address, due now, and wake whoever sends.

    Whose account it is for, if there is one, is decided when it is taken in hand. Unless it is admitted, it keeps to
    the schedule of its address.
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
    """Return the token of a mail's link: good for this user at this address as long as they have this password."""
    return mint_account_token(secrets, _USE, mail_id, str(user_id), email_key, password_hash)


async def find_forgetful(conn: Connection, secrets: Secrets, token: AccountToken) -> Forgetful:
    """Return whose password a link may set.

    Raises:
        TokenInvalidError: no mail of ours had it.
        ResetExpiredError: it is too old, or was used, or the account has another password or address by now.
    """
    return await _open(conn, secrets, token)


async def reset_password(
    conn: Connection, secrets: Secrets, token: AccountToken, new_hash: str, by: By
) -> None:
    """Set another password for whoever has the link, in the caller's transaction.

    It ends every session, and proves the address: whoever opened the link reads its mail. So their client is
    known from now on, and does not wait for what strangers guessed. Clients that were known before are forgotten: one
    of them may be why the password is reset.

    Raises:
        TokenInvalidError, ResetExpiredError: as `find_forgetful`.
    """
    found = await _open(conn, secrets, token, lock=True)
    ended = await set_password(conn, found.user_id, new_hash, reason="password_reset")
    await conn.execute("UPDATE users SET email_confirmed_at = now() WHERE id = %(id)s", {"id": found.user_id})
    # Whoever reads the mail there has the account in use: it is not taken back unless they are told before.
    await conn.execute(
        "UPDATE address_moves SET proved_at = now() WHERE user_id = %(id)s AND state = 'done'",
        {"id": found.user_id},
    )
    await forget_address(conn, secrets, found.email_key)
    await know_client(conn, secrets, found.email_key, by)
    await record.record(conn, "password_reset", by, user_id=found.user_id, sessions_ended=ended)
    await add_notice(conn, found.user_id, "password_reset_done", by)


async def _open(conn: Connection, secrets: Secrets, token: AccountToken, *, lock: bool = False) -> Forgetful:
    """Return whose password a link may set; locked, nobody else sets it until the transaction ends."""
    async with conn.cursor(row_factory=class_row(_Account)) as cursor:
        await cursor.execute(
            f"""
            SELECT u.id AS user_id, u.email, u.email_key, u.name, u.password_hash,
                   u.email_key = m.email_key AND u.disabled_at IS NULL
                   -- The clock starts when the mail was accepted, or else when it was given up.
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
    # A used link proves nothing any more: the password that it was made for is gone.
    bound = (str(found.user_id), found.email_key, found.password_hash)
    if not found.alive or not token.proves(secrets, _USE, *bound):
        raise ResetExpiredError
    return Forgetful(found.user_id, found.email, found.email_key, found.name)
