"""A session of a browser: a session as any other, known by a cookie instead of tokens that are renewed."""

from __future__ import annotations

from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.sessions.session import ALIVE, IDLE_LIFE
from regsvc.postgres.connection import Connection
from regsvc.security.keys import AccessToken


async def resume_session(conn: Connection, session_id: UUID) -> AccessToken | None:
    """Return who acts in a session, or None if it is over; that it was used is noted once a minute.

    Like a refresh token's, its life is 30 days, and 7 without any use.
    """
    values = {"id": session_id, "idle": IDLE_LIFE}
    async with conn.cursor(row_factory=class_row(AccessToken)) as cursor:
        await cursor.execute(
            f"""
            SELECT s.user_id, s.id AS session_id, u.role
              FROM sessions s
              JOIN users u ON u.id = s.user_id AND u.disabled_at IS NULL
             WHERE s.id = %(id)s AND {ALIVE} AND s.last_used_at > now() - %(idle)s
            """,  # noqa: S608 - a constant of that module
            values,
        )
        found = await cursor.fetchone()
    if found is not None:
        await conn.execute(
            """
            UPDATE sessions SET last_used_at = now()
             WHERE id = %(id)s AND last_used_at < now() - interval '1 minute'
            """,
            values,
        )
    return found
