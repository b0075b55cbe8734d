"""A user: the owner of a confirmed address."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection


class LastAdminError(RegsvcError):
    """This is the only administrator. Make another user an administrator first."""

    code = "last_admin"


class UserNotFoundError(RegsvcError):
    """There is no such user."""

    code = "user_not_found"


@dataclass(frozen=True)
class User:
    """The profile as its owner sees it; `version`, the entity tag, rises with every change."""

    id: UUID
    email: str
    name: str
    locale: str
    role: str
    version: int
    created_at: datetime


@dataclass(frozen=True, repr=False)
class Credentials:
    """What a login attempt is checked against, and whether a second factor has to follow."""

    user_id: UUID
    email_key: str
    role: str
    password_hash: str
    second_factor: bool


# The columns of `Credentials`, of a user `u`.
CREDENTIALS = """
    u.id AS user_id, u.email_key, u.role, u.password_hash,
    EXISTS (SELECT FROM totp_authenticators t WHERE t.user_id = u.id) AS second_factor
"""


async def get_user(conn: Connection, user_id: UUID) -> User | None:
    """Return an active user, or None."""
    async with conn.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(
            """
            SELECT id, email, name, locale, role, version, created_at
              FROM users
             WHERE id = %(id)s AND disabled_at IS NULL
            """,
            {"id": user_id},
        )
        return await cursor.fetchone()


async def find_address(conn: Connection, user_id: UUID) -> str:
    """Return the key of a user's address.

    Raises:
        UserNotFoundError: no such user.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute("SELECT email_key FROM users WHERE id = %(id)s", {"id": user_id})
        found = await cursor.fetchone()
    if found is None:
        raise UserNotFoundError
    return str(found)


async def find_credentials(conn: Connection, email_key: str) -> Credentials | None:
    """Return the credentials of the active user at an address, or None."""
    async with conn.cursor(row_factory=class_row(Credentials)) as cursor:
        await cursor.execute(
            f"""
            SELECT {CREDENTIALS}
              FROM users u
             WHERE u.email_key = %(email_key)s AND u.disabled_at IS NULL
            """,  # noqa: S608 - a constant
            {"email_key": email_key},
        )
        return await cursor.fetchone()


async def get_credentials(conn: Connection, user_id: UUID) -> Credentials | None:
    """Return the credentials of an active user for reauthentication, or None."""
    async with conn.cursor(row_factory=class_row(Credentials)) as cursor:
        await cursor.execute(
            f"""
            SELECT {CREDENTIALS}
              FROM users u
             WHERE u.id = %(id)s AND u.disabled_at IS NULL
            """,  # noqa: S608 - a constant
            {"id": user_id},
        )
        return await cursor.fetchone()


async def lock_user(conn: Connection, user_id: UUID) -> None:
    """Keep a user from being changed or deleted, and from logging in, until the caller's transaction ends."""
    await conn.execute("SELECT FROM users WHERE id = %(id)s FOR NO KEY UPDATE", {"id": user_id})


async def update_profile(
    conn: Connection, user_id: UUID, *, name: str | None, locale: str | None, versions: Collection[int] | None
) -> tuple[User, list[str]] | None:
    """Update the given fields of a profile.

    The version rises if a value changes; otherwise nothing is written.

    Args:
        conn: in a transaction.
        user_id: the user.
        name: None keeps the present one.
        locale: None keeps the present one.
        versions: acceptable present versions; None accepts any.

    Returns:
        The profile and the names of the changed fields, or None if its version is not acceptable.
    """
    async with conn.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(
            """
            SELECT id, email, name, locale, role, version, created_at
              FROM users
             WHERE id = %(id)s AND disabled_at IS NULL
               AND (%(versions)s::integer[] IS NULL OR version = ANY(%(versions)s))
               FOR NO KEY UPDATE
            """,
            {"id": user_id, "versions": None if versions is None else list(versions)},
        )
        before = await cursor.fetchone()
    if before is None:
        return None
    after = replace(before, name=name or before.name, locale=locale or before.locale)
    changed = [field for field in ("locale", "name") if getattr(after, field) != getattr(before, field)]
    if not changed:
        return before, []
    after = replace(after, version=before.version + 1)
    await conn.execute(
        "UPDATE users SET name = %(name)s, locale = %(locale)s, version = %(version)s WHERE id = %(id)s",
        {"id": user_id, "name": after.name, "locale": after.locale, "version": after.version},
    )
    return after, changed


async def replace_password_hash(conn: Connection, user_id: UUID, *, old: str, new: str) -> None:
    """Store a rehash of the same password unless the password has changed meanwhile."""
    await conn.execute(
        "UPDATE users SET password_hash = %(new)s WHERE id = %(id)s AND password_hash = %(old)s",
        {"id": user_id, "old": old, "new": new},
    )


async def keep_an_admin(conn: Connection, user_id: UUID) -> None:
    """Ensure that another administrator remains if this user ceases to be one.

    Call it before locking any user: it locks all administrators in the order of their ids.

    Raises:
        LastAdminError: this user is the only administrator.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            SELECT id FROM users
             WHERE role = 'admin' AND disabled_at IS NULL
               AND EXISTS (SELECT FROM users WHERE id = %(id)s AND role = 'admin')
             ORDER BY id FOR NO KEY UPDATE
            """,
            {"id": user_id},
        )
        if await cursor.fetchall() == [user_id]:
            raise LastAdminError
