"""A login session; `refresh_token` keeps it alive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection

LIFE = timedelta(days=30)
IDLE_LIFE = timedelta(days=7)
MOST_SHOWN = 200  # sessions of one user

ALIVE = "s.ended_at IS NULL AND s.expires_at > now()"


class SessionNotFoundError(RegsvcError):
    """You have no such session."""

    code = "session_not_found"


@dataclass(frozen=True)
class Session:
    """A session as its owner sees it.

    Args:
        id: of the session; the `sid` of its access tokens.
        origin: network prefix of the login.
        client: short name of the software that logged in.
        created_at: when the user logged in.
        last_used_at: when its tokens were last renewed; a client does so every ten minutes.
        expires_at: when the session ends unless its tokens are renewed.
    """

    id: UUID
    origin: str
    client: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


async def end_session(conn: Connection, session_id: UUID, *, reason: str) -> bool:
    """End a session and return whether it was alive."""
    cursor = await conn.execute(
        """
        UPDATE sessions SET ended_at = now(), ended_reason = %(reason)s
         WHERE id = %(id)s AND ended_at IS NULL
        """,
        {"id": session_id, "reason": reason},
    )
    return cursor.rowcount > 0


async def end_all_sessions(conn: Connection, user_id: UUID, *, reason: str, keep: UUID | None = None) -> int:
    """End every session of a user except `keep`, and return how many were alive."""
    cursor = await conn.execute(
        """
        UPDATE sessions SET ended_at = now(), ended_reason = %(reason)s
         WHERE id IN (SELECT id FROM sessions
                       WHERE user_id = %(user_id)s AND ended_at IS NULL AND id IS DISTINCT FROM %(keep)s
                       ORDER BY id FOR UPDATE)
        """,
        {"user_id": user_id, "keep": keep, "reason": reason},
    )
    return cursor.rowcount


async def end_own_session(conn: Connection, user_id: UUID, session_id: UUID, *, reason: str) -> None:
    """End one of a user's sessions.

    Raises:
        SessionNotFoundError: the session belongs to another user or has ended.
    """
    cursor = await conn.execute(
        f"""
        UPDATE sessions s SET ended_at = now(), ended_reason = %(reason)s
         WHERE id = %(id)s AND user_id = %(user_id)s AND {ALIVE}
        """,  # noqa: S608 - a constant of this module
        {"id": session_id, "user_id": user_id, "reason": reason},
    )
    if cursor.rowcount == 0:
        raise SessionNotFoundError


async def list_sessions(conn: Connection, user_id: UUID) -> list[Session]:
    """Return a user's live sessions, most recently used first, at most `MOST_SHOWN`."""
    async with conn.cursor(row_factory=class_row(Session)) as cursor:
        await cursor.execute(
            f"""
            SELECT s.id, s.origin, s.client, s.created_at, s.last_used_at,
                   least(s.expires_at, s.last_used_at + %(idle)s) AS expires_at
              FROM sessions s
             WHERE s.user_id = %(user_id)s AND {ALIVE} AND s.last_used_at > now() - %(idle)s
             ORDER BY s.last_used_at DESC, s.id
             LIMIT %(limit)s
            """,  # noqa: S608 - a constant of this module
            {"user_id": user_id, "idle": IDLE_LIFE, "limit": MOST_SHOWN},
        )
        return await cursor.fetchall()


async def purge_legacy_tokens(conn: Connection, limit: int) -> int:
    """Delete legacy refresh tokens of ended sessions, and return the count.

    A session may have thousands. They are deleted in batches before the session itself.
    """
    cursor = await conn.execute(
        """
        DELETE FROM refresh_tokens
         WHERE token_hash IN (SELECT t.token_hash
                                FROM (SELECT id FROM sessions WHERE expires_at <= now()
                                       ORDER BY expires_at LIMIT %(limit)s) AS s
                                JOIN refresh_tokens t ON t.session_id = s.id
                               LIMIT %(limit)s
                                 FOR UPDATE OF t SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount


async def purge_sessions(conn: Connection, limit: int) -> int:
    """Delete sessions past retention whose refresh tokens are gone, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM sessions
         WHERE id IN (SELECT id FROM sessions s
                       WHERE expires_at <= now()
                         AND NOT EXISTS (SELECT FROM refresh_tokens t WHERE t.session_id = s.id)
                       ORDER BY expires_at LIMIT %(limit)s
                         FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount
