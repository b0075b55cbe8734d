"""A grant: a session, and the refresh token that keeps it alive.

A refresh token is good once. Its child is derived from it, so that parallel requests with one token are given the
same child and nobody is logged out; a token that comes back later than that has been stolen, and ends the session
(RFC 9700 section 4.14.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.sessions.session import ALIVE, IDLE_LIFE, LIFE, end_session
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security import tokens
from regsvc.security.keys import AccessToken
from regsvc.security.tokens import Secrets

REUSE_GRACE = timedelta(seconds=10)


class RefreshTokenInvalidError(RegsvcError):
    """The refresh token is unknown, expired, or of a session that ended. Log in again."""

    code = "refresh_token_invalid"


class RefreshTokenReusedError(RegsvcError):
    """The refresh token was used before: the session has been ended. Log in again."""

    code = "refresh_token_reused"


class CredentialsChangedError(RegsvcError):
    """The account was changed, disabled or deleted while its password was being checked."""


@dataclass(frozen=True, repr=False)
class Grant:
    """A session and the refresh token to give out for it."""

    session_id: UUID
    user_id: UUID
    role: str
    refresh_token: str
    refresh_expires_in: int  # seconds

    def token(self) -> AccessToken:
        """Return what the access token of this session says."""
        return AccessToken(self.user_id, self.session_id, self.role)


@dataclass(frozen=True)
class Reuse:
    """A refresh token came back that had been used before: somebody has a copy of it. Its session has been ended."""

    session_id: UUID
    user_id: UUID


@dataclass(frozen=True)
class _Presented:
    session_id: UUID
    user_id: UUID
    role: str
    over: bool  # the session is
    expired: bool
    used: bool
    in_grace: bool


async def start_session(
    conn: Connection, user_id: UUID, *, password_hash: str, origin: str, client: str
) -> Grant:
    """Insert a session with its first refresh token, in the caller's transaction.

    The user is locked against changes meanwhile: whoever changes the password, disables or deletes the account ends
    this session, too, or keeps it from starting.

    Args:
        conn: in a transaction.
        user_id: who logs in.
        password_hash: what their password was checked against.
        origin: the network prefix that they log in from.
        client: a short word for their software.

    Raises:
        CredentialsChangedError: that is not their password any more, or they may not log in any more.
    """
    session_id, token = uuid4(), tokens.new_refresh_token()
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            WITH owner AS MATERIALIZED (
                SELECT id, role FROM users
                 WHERE id = %(user_id)s AND password_hash = %(password_hash)s AND disabled_at IS NULL
                   FOR SHARE
            ), started AS (
                INSERT INTO sessions (id, user_id, origin, client, expires_at)
                SELECT %(id)s, owner.id, %(origin)s, %(client)s, now() + %(life)s FROM owner
            )
            SELECT role FROM owner
            """,
            {
                "id": session_id,
                "user_id": user_id,
                "password_hash": password_hash,
                "origin": origin,
                "client": client,
                "life": LIFE,
            },
        )
        role = await cursor.fetchone()
    if role is None:
        raise CredentialsChangedError
    return Grant(session_id, user_id, role, token, await _store_token(conn, session_id, token))


async def refresh_session(conn: Connection, secrets: Secrets, token: str) -> Grant | Reuse:
    """Exchange a refresh token for its child, in the caller's transaction.

    Returns:
        The grant; or the reuse of a token that had been used before, which must be committed before anything is
        raised. How old that token is does not matter while its session lives.

    Raises:
        RefreshTokenInvalidError: unknown, expired, or its session over.
    """
    presented = await _present_token(conn, token)
    if presented is None or presented.over:
        raise RefreshTokenInvalidError
    child = tokens.next_refresh_token(secrets, token)
    if presented.used:
        if not (presented.in_grace and await _is_unused(conn, child)):
            await end_session(conn, presented.session_id, reason="refresh_token_reused")
            return Reuse(presented.session_id, presented.user_id)
    elif presented.expired:
        raise RefreshTokenInvalidError
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


async def _present_token(conn: Connection, token: str) -> _Presented | None:
    """Return what a token stands for, its session locked: parallel uses of one token queue up there.

    Locked as everywhere: the user, who is about to be told if it was stolen, before the session, and that before its
    tokens. What is true then is read when it is locked.
    """
    token_hash = tokens.hash_refresh_token(token)
    await conn.execute(
        """
        WITH owner AS MATERIALIZED (
            SELECT u.id AS user_id, s.id AS session_id
              FROM refresh_tokens t
              JOIN sessions s ON s.id = t.session_id
              JOIN users u ON u.id = s.user_id
             WHERE t.token_hash = %(hash)s
               FOR KEY SHARE OF u
        )
        SELECT FROM sessions s JOIN owner ON owner.session_id = s.id FOR UPDATE OF s
        """,
        {"hash": token_hash},
    )
    async with conn.cursor(row_factory=class_row(_Presented)) as cursor:
        await cursor.execute(
            f"""
            SELECT s.id AS session_id, s.user_id, u.role,
                   NOT ({ALIVE}) OR u.disabled_at IS NOT NULL AS over,
                   t.expires_at <= now() AS expired,
                   t.used_at IS NOT NULL AS used,
                   coalesce(t.used_at > now() - %(grace)s, false) AS in_grace
              FROM refresh_tokens t
              JOIN sessions s ON s.id = t.session_id
              JOIN users u ON u.id = s.user_id
             WHERE t.token_hash = %(hash)s
            """,  # noqa: S608 - a constant
            {"hash": token_hash, "grace": REUSE_GRACE},
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
