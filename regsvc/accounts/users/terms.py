"""The terms of use that a user accepted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.audit.record import By, record
from regsvc.postgres.connection import Connection


@dataclass(frozen=True)
class Acceptance:
    """What a user accepted last.

    Args:
        version: of the terms; None if the user never accepted any.
        at: when the user accepted it.
    """

    version: str | None
    at: datetime | None


async def get_acceptance(conn: Connection, user_id: UUID) -> Acceptance | None:
    """Return what an active user accepted last, or None if there is no such user."""
    async with conn.cursor(row_factory=class_row(Acceptance)) as cursor:
        await cursor.execute(
            "SELECT terms AS version, terms_at AS at FROM users WHERE id = %(id)s AND disabled_at IS NULL",
            {"id": user_id},
        )
        return await cursor.fetchone()


async def accept_terms(conn: Connection, user_id: UUID, version: str, by: By) -> bool:
    """Store that a user accepts a version, in the caller's transaction.

    Returns:
        Whether it is stored now; False if it was before, or there is no such user.
    """
    cursor = await conn.execute(
        """
        UPDATE users SET terms = %(version)s, terms_at = now()
         WHERE id = %(id)s AND disabled_at IS NULL AND terms IS DISTINCT FROM %(version)s
        """,
        {"id": user_id, "version": version},
    )
    if cursor.rowcount == 0:
        return False
    await record(conn, "terms_accepted", by, user_id=user_id, version=version)
    return True
