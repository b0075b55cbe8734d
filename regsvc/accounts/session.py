"""A session: what one log-in grew into, and the refresh tokens that keep it alive.

A refresh token is good once. Its child is derived from it, so that parallel requests with one token are given the
same child and nobody is logged out; a token that comes back later than that has been stolen, and ends the session
(RFC 9700 section 4.14.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from psycopg.rows import class_row, scalar_row

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security import tokens
from regsvc.security.tokens import Secrets

ABSOLUTE_LIFE = timedelta(days=30)
IDLE_LIFE = timedelta(days=7)
REUSE_GRACE = timedelta(seconds=10)


class RefreshTokenInvalidError(RegsvcError):
    """The refresh token is unknown, expired, or of a session that ended. Log in again."""


class RefreshTokenReusedError(RegsvcError):
    """The refresh token was used before: the session has been ended. Log in again."""


@dataclass(frozen=True, repr=False)
class Grant:
    """A session and the refresh token to give out for it."""

    session_id: UUID
    user_id: UUID
    role: str
    refresh_token: str
    refresh_expires_in: int  # seconds


@dataclass(frozen=True)
class _Presented:
    session_id: UUID
    user_id: UUID
    role: str
    ended: bool
    expired: bool
    used: bool
    in_grace: bool


async def start_session(conn: Connection, user_id: UUID, *, role: str, origin: str, client: str) -> Grant:
    """Insert a session with its first refresh token, in the caller's transaction."""
    session_id, token = uuid4(), tokens.new_refresh_token()
    await conn.execute(
        """
        INSERT INTO sessions (id, user_id, origin, client, expires_at)
        VALUES (%(id)s, %(user_id)s, %(origin)s, %(client)s, now() + %(life)s)
        """,
        {"id": session_id, "user_id": user_id, "origin": origin, "client": client, "life": ABSOLUTE_LIFE},
    )
    return Grant(session_id, user_id, role, token, await _store_token(conn, session_id, token))


async def refresh_session(conn: Connection, secrets: Secrets, token: str) -> Grant | None:
    """Exchange a refresh token for its child, in the caller's transaction.

    Returns:
        The grant, or None when the token had been used before: the session is ended then, which must be committed
        before anything is raised.

    Raises:
        RefreshTokenInvalidError: unknown, expired, or its session over.
    """
    presented = await _present_token(conn, token)
    if presented is None or presented.ended or presented.expired:
        raise RefreshTokenInvalidError
    child = tokens.next_refresh_token(secrets, token)
    if presented.used:
        if not (presented.in_grace and await _is_unused(conn, child)):
            await end_session(conn, presented.session_id, reason="refresh_token_reused")
            return None
    else:
        await conn.execute(
            "UPDATE refresh_tokens SET used_at = now() WHERE token_hash = %(hash)s",
            {"hash": tokens.hash_refresh_token(token)},
        )
        await conn.execute(
            "UPDATE sessions SET last_used_at = now() WHERE id = %(id)s", {"id": presented.session_id}
        )
    expires_in = await _store_token(conn, presented.session_id, child)
    return Grant(presented.session_id, presented.user_id, presented.role, child, expires_in)


async def end_session(conn: Connection, session_id: UUID, *, reason: str) -> bool:
    """End a session and say whether it was still alive."""
    cursor = await conn.execute(
        """
        UPDATE sessions SET ended_at = now(), ended_reason = %(reason)s
         WHERE id = %(id)s AND ended_at IS NULL
        """,
        {"id": session_id, "reason": reason},
    )
    return cursor.rowcount > 0


async def end_all_sessions(conn: Connection, user_id: UUID, *, reason: str, keep: UUID | None = None) -> int:
    """End every session of a user, but for one to keep, and return how many were alive."""
    cursor = await conn.execute(
        """
        UPDATE sessions SET ended_at = now(), ended_reason = %(reason)s
         WHERE user_id = %(id)s AND ended_at IS NULL AND id IS DISTINCT FROM %(keep)s
        """,
        {"id": user_id, "reason": reason, "keep": keep},
    )
    return cursor.rowcount


async def is_alive(conn: Connection, session_id: UUID) -> bool:
    """Say whether a session may still act."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT true FROM sessions WHERE id = %(id)s AND ended_at IS NULL AND expires_at > now()",
            {"id": session_id},
        )
        return await cursor.fetchone() is not None


async def purge_sessions(conn: Connection, limit: int) -> int:
    """Delete sessions, and their tokens, whose time is over, and return how many."""
    cursor = await conn.execute(
        """
        DELETE FROM sessions
         WHERE id IN (SELECT id FROM sessions WHERE expires_at <= now() LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount


async def _present_token(conn: Connection, token: str) -> _Presented | None:
    """Return what a token stands for, its row locked: parallel uses of one token queue up here."""
    async with conn.cursor(row_factory=class_row(_Presented)) as cursor:
        await cursor.execute(
            """
            SELECT s.id AS session_id, s.user_id, u.role,
                   s.ended_at IS NOT NULL OR u.disabled_at IS NOT NULL AS ended,
                   t.expires_at <= now() OR s.expires_at <= now() AS expired,
                   t.used_at IS NOT NULL AS used,
                   coalesce(t.used_at > now() - %(grace)s, false) AS in_grace
              FROM refresh_tokens t
              JOIN sessions s ON s.id = t.session_id
              JOIN users u ON u.id = s.user_id
             WHERE t.token_hash = %(hash)s
               FOR UPDATE OF t, s
            """,
            {"hash": tokens.hash_refresh_token(token), "grace": REUSE_GRACE},
        )
        return await cursor.fetchone()


async def _is_unused(conn: Connection, token: str) -> bool:
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT used_at IS NULL FROM refresh_tokens WHERE token_hash = %(hash)s",
            {"hash": tokens.hash_refresh_token(token)},
        )
        return await cursor.fetchone() is not False


async def _store_token(conn: Connection, session_id: UUID, token: str) -> int:
    """Insert a token, or find it there, and return the seconds until it expires."""
    token_hash = tokens.hash_refresh_token(token)
    # A token that is there is not touched: whoever presents it may hold it, and wait for the session that we hold.
    await conn.execute(
        """
        INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
        SELECT %(hash)s, id, least(expires_at, now() + %(life)s) FROM sessions WHERE id = %(session_id)s
        ON CONFLICT (token_hash) DO NOTHING
        """,
        {"hash": token_hash, "session_id": session_id, "life": IDLE_LIFE},
    )
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT extract(epoch FROM expires_at - now())::int FROM refresh_tokens WHERE token_hash = %(hash)s",
            {"hash": token_hash},
        )
        seconds = await cursor.fetchone()
        assert isinstance(seconds, int)  # noqa: S101 - the session is locked or new
        return seconds
