"""Operator and administrator actions on accounts, each audited in its own transaction.

All functions run in the caller's transaction and lock users before sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID, uuid4

from psycopg.rows import scalar_row

from regsvc.accounts.admin.user_search import Role
from regsvc.accounts.audit.record import By, record
from regsvc.accounts.factors.passkeys import remove_passkeys
from regsvc.accounts.factors.recovery_codes import remove_recovery_codes
from regsvc.accounts.factors.totp import remove_totp
from regsvc.accounts.registrations.activation import AddressTakenError
from regsvc.accounts.sessions.session import end_all_sessions
from regsvc.accounts.users.erasure import erase_user
from regsvc.accounts.users.notices import add_change_notice
from regsvc.accounts.users.user import UserNotFoundError, keep_an_admin
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets


class OwnAccountError(RegsvcError):
    """You cannot disable or delete your own account. Ask another administrator."""

    code = "own_account"


@dataclass(frozen=True, repr=False)
class NewUser:
    """A user created without confirmation of the address.

    Args:
        email: the normalised address.
        email_key: key of the address.
        name: name of the user.
        locale: language of messages to the user.
        role: role of the user.
        password_hash: hash of the password.
        created_at: time of creation; None means now.
    """

    email: str
    email_key: str
    name: str
    locale: str
    role: Role
    password_hash: str
    created_at: datetime | None = None


async def add_user(conn: Connection, new: NewUser, by: By) -> UUID:
    """Insert a user and return the id.

    Raises:
        AddressTakenError: the address already has an account.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            INSERT INTO users (id, email, email_key, name, locale, role, password_hash)
            VALUES (%(id)s, %(email)s, %(email_key)s, %(name)s, %(locale)s, %(role)s, %(password_hash)s)
            ON CONFLICT (email_key) DO NOTHING
            RETURNING id
            """,
            {"id": uuid4(), **vars(new)},
        )
        user_id: UUID | None = await cursor.fetchone()
    if user_id is None:
        raise AddressTakenError
    await record(conn, "account_created", by, user_id=user_id, role=new.role)
    return user_id


async def list_taken(conn: Connection, email_keys: Sequence[str]) -> set[str]:
    """Return which of these addresses have an account."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT email_key FROM users WHERE email_key = ANY(%(keys)s)", {"keys": list(email_keys)}
        )
        return set(await cursor.fetchall())


async def import_users(conn: Connection, users: Sequence[NewUser]) -> int:
    """Import users of another system, and return the count; existing accounts are unchanged."""
    cursor = await conn.execute(
        """
        INSERT INTO users (id, email, email_key, name, locale, role, password_hash, created_at, email_confirmed_at)
        SELECT gen_random_uuid(), email, email_key, name, locale, role, password_hash,
               coalesce(created_at, now()), coalesce(created_at, now())
          FROM unnest(%(email)s::text[], %(email_key)s::text[], %(name)s::text[], %(locale)s::text[],
                      %(role)s::text[], %(password_hash)s::text[], %(created_at)s::timestamptz[])
               AS new (email, email_key, name, locale, role, password_hash, created_at)
        ON CONFLICT (email_key) DO NOTHING
        """,
        {field.name: [getattr(user, field.name) for user in users] for field in fields(NewUser)},
    )
    return cursor.rowcount


async def disable_user(conn: Connection, user_id: UUID, by: By) -> None:
    """Disable a user and end their sessions; disabling a disabled user changes nothing.

    Raises:
        UserNotFoundError: no such user.
        OwnAccountError: the account is the administrator's own.
        LastAdminError: this user is the only administrator.
    """
    _check_somebody_else(user_id, by)
    await keep_an_admin(conn, user_id)
    await _lock_user(conn, user_id)
    changed = await conn.execute(
        "UPDATE users SET disabled_at = now() WHERE id = %(id)s AND disabled_at IS NULL", {"id": user_id}
    )
    if changed.rowcount:
        ended = await end_all_sessions(conn, user_id, reason="user_disabled")
        await record(conn, "user_disabled", by, user_id=user_id, sessions=ended)


async def enable_user(conn: Connection, user_id: UUID, by: By) -> None:
    """Enable a user.

    Raises:
        UserNotFoundError: no such user.
    """
    await _lock_user(conn, user_id)
    changed = await conn.execute(
        "UPDATE users SET disabled_at = NULL WHERE id = %(id)s AND disabled_at IS NOT NULL", {"id": user_id}
    )
    if changed.rowcount:
        await record(conn, "user_enabled", by, user_id=user_id)


async def end_user_sessions(conn: Connection, user_id: UUID, by: By) -> int:
    """End all sessions of a user and return how many were alive.

    Raises:
        UserNotFoundError: no such user.
    """
    await _lock_user(conn, user_id)
    ended = await end_all_sessions(conn, user_id, reason="ended_by_operator")
    await record(conn, "sessions_ended", by, user_id=user_id, sessions=ended)
    return ended


async def set_role(conn: Connection, user_id: UUID, role: Role, by: By) -> None:
    """Change a user's role and end their sessions, whose tokens carry the former role.

    Raises:
        UserNotFoundError: no such user.
        LastAdminError: this user is the only administrator.
    """
    if role != "admin":
        await keep_an_admin(conn, user_id)
    await _lock_user(conn, user_id)
    changed = await conn.execute(
        "UPDATE users SET role = %(role)s WHERE id = %(id)s AND role <> %(role)s",
        {"id": user_id, "role": role},
    )
    if changed.rowcount:
        await end_all_sessions(conn, user_id, reason="role_changed")
        await record(conn, "role_changed", by, user_id=user_id, role=role)


async def reset_factors(conn: Connection, user_id: UUID, by: By) -> None:
    """Remove a user's authenticator app, recovery codes and passkeys; the password or the mailbox is the way in.

    Before it, make sure in another way that the user asks: this is what an attacker who knows the password would ask.

    Raises:
        UserNotFoundError: no such user.
    """
    await _lock_user(conn, user_id)
    removed = await remove_totp(conn, user_id)
    await remove_recovery_codes(conn, user_id)
    passkeys = await remove_passkeys(conn, user_id)
    await record(conn, "factors_reset", by, user_id=user_id, totp=removed > 0, passkeys=passkeys)
    await add_change_notice(conn, user_id, "factors_reset", by)


async def delete_user(conn: Connection, secrets: Secrets, user_id: UUID, by: By) -> None:
    """Delete an account and erase the user's personal data, as the user could themselves.

    Raises:
        UserNotFoundError: no such user.
        OwnAccountError: the account is the administrator's own.
        LastAdminError: this user is the only administrator.
    """
    _check_somebody_else(user_id, by)
    await erase_user(conn, secrets, user_id, by)


def _check_somebody_else(user_id: UUID, by: By) -> None:
    if by.actor_id == user_id:
        raise OwnAccountError


async def _lock_user(conn: Connection, user_id: UUID) -> None:
    cursor = await conn.execute("SELECT FROM users WHERE id = %(id)s FOR NO KEY UPDATE", {"id": user_id})
    if cursor.rowcount == 0:
        raise UserNotFoundError
