"""A user: somebody who confirmed an address."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from regsvc.postgres.connection import Connection


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


async def find_credentials(conn: Connection, email_key: str) -> Credentials | None:
    """Return what the owner of an address logs in with, or None."""
    async with conn.cursor(row_factory=class_row(Credentials)) as cursor:
        await cursor.execute(
            """
            SELECT id AS user_id, role, password_hash
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
            SELECT id AS user_id, role, password_hash
              FROM users
             WHERE id = %(id)s AND disabled_at IS NULL
            """,
            {"id": user_id},
        )
        return await cursor.fetchone()


async def update_profile(
    conn: Connection, user_id: UUID, *, name: str | None, locale: str | None, version: int | None
) -> User | None:
    """Change what is given of a profile and return it, or None when its version is no longer the one expected."""
    async with conn.cursor(row_factory=class_row(User)) as cursor:
        await cursor.execute(
            """
            UPDATE users
               SET name = coalesce(%(name)s, name), locale = coalesce(%(locale)s, locale), version = version + 1
             WHERE id = %(id)s AND disabled_at IS NULL AND version = coalesce(%(version)s, version)
            RETURNING id, email, name, locale, role, version, created_at
            """,
            {"id": user_id, "name": name, "locale": locale, "version": version},
        )
        return await cursor.fetchone()


async def replace_password_hash(conn: Connection, user_id: UUID, *, old: str, new: str) -> None:
    """Store a fresh hash of the same password, unless the password was changed meanwhile."""
    await conn.execute(
        "UPDATE users SET password_hash = %(new)s WHERE id = %(id)s AND password_hash = %(old)s",
        {"id": user_id, "old": old, "new": new},
    )
