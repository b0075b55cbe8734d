"""A user: somebody who confirmed an address."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection


class LastAdminError(RegsvcError):
    """Nobody else could administer this service then: make somebody else an administrator first."""

    code = "last_admin"


class UserNotFoundError(RegsvcError):
    """There is no such user."""

    code = "user_not_found"


@dataclass(frozen=True)
class User:
    """The profile, as its owner sees it. `version` rises with every change: it is the entity tag."""

    id: UUID
    email: str
    name: str
    locale: str
    role: str
    version: int
    created_at: datetime


@dataclass(frozen=True, repr=False)
class Credentials:
    """What a log-in is checked against."""

    user_id: UUID
    email_key: str
    role: str
    password_hash: str


async def get_user(conn: Connection, user_id: UUID) -> User | None:
    """Return a user who may act, or None."""
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
    """Return the address of a user, as it is compared.

    Raises:
        UserNotFoundError: there is no such user.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute("SELECT email_key FROM users WHERE id = %(id)s", {"id": user_id})
        found = await cursor.fetchone()
    if found is None:
        raise UserNotFoundError
    return str(found)


async def find_credentials(conn: Connection, email_key: str) -> Credentials | None:
    """Return what the owner of an address logs in with, or None."""
    async with conn.cursor(row_factory=class_row(Credentials)) as cursor:
        await cursor.execute(
            """
            SELECT id AS user_id, email_key, role, password_hash
              FROM users
             WHERE email_key = %(email_key)s AND disabled_at IS NULL
            """,
            {"email_key": email_key},
        )
        return await cursor.fetchone()


async def get_credentials(conn: Connection, user_id: UUID) -> Credentials | None:
    """Return what a user who may act proves once more who they are with, or None."""
    async with conn.cursor(row_factory=class_row(Credentials)) as cursor:
        await cursor.execute(
            """
            SELECT id AS user_id, email_key, role, password_hash
              FROM users
             WHERE id = %(id)s AND disabled_at IS NULL
            """,
            {"id": user_id},
        )
        return await cursor.fetchone()


async def update_profile(
    conn: Connection, user_id: UUID, *, name: str | None, locale: str | None, versions: Collection[int] | None
) -> tuple[User, list[str]] | None:
    """Change what is given of a profile.

    The version rises if anything is different afterwards; otherwise nothing is written.

    Args:
        conn: in a transaction.
        user_id: whose profile.
        name: None for the one that it has.
        locale: likewise.
        versions: of which it may be; None for any.

    Returns:
        The profile and the names of the fields that are different now, or None when it has none of the versions.
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
    """Store a fresh hash of the same password, unless the password was changed meanwhile."""
    await conn.execute(
        "UPDATE users SET password_hash = %(new)s WHERE id = %(id)s AND password_hash = %(old)s",
        {"id": user_id, "old": old, "new": new},
    )


async def keep_an_admin(conn: Connection, user_id: UUID) -> None:
    """Make sure, for the caller's transaction, that somebody else may administer the service if this user no more may.

    To be called before any user is locked: administrators are, in the order of their ids, if the user is one.

    Raises:
        LastAdminError: this user is the only one.
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
