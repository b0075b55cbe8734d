"""A session, and the refresh token that keeps it alive.

A refresh token is a session's id, a number and a MAC over both; the session's row has the number that is good. It is
good once. Parallel requests with one token are given the same child, so that they log nobody out. A token that comes
back later than that has been stolen, and ends the session, however old it is (RFC 9700 section 4.14.2). However often
a session is refreshed, it stays one row.

Until 0.2 every token was random and had a row. Such tokens are exchanged for numbered ones until they expire, in
`regsvc.accounts.sessions.legacy_token`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.limits.rate_limit import Limit, RateLimitedError
from regsvc.accounts.sessions import legacy_token
from regsvc.accounts.sessions.session import ALIVE, IDLE_LIFE, LIFE, end_session
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.keys import AccessToken
from regsvc.security.tokens import RefreshToken, Secrets, mint_refresh_token, read_refresh_token

REUSE_GRACE = timedelta(seconds=10)
# How often a session is refreshed. A client does so every ten minutes; a loop would write as fast as the disk does.
PACE = Limit("refresh", 10, 60)
# Seconds that one more refresh would use up of it (the generic cell rate algorithm, as in `rate_limit`).
_PACE = f"(extract(epoch FROM greatest(s.refresh_pace, now()) - now())::float8 + {PACE.seconds / PACE.quota})"


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
class _Session:
    """A session that a token was presented for."""

    user_id: UUID
    role: str
    over: bool
    number: int  # of the token that is good
    expires_in: float  # seconds that this one is good for
    in_grace: bool  # it was given out within the grace
    pace: float  # seconds that one more refresh would use up of the limit


async def start_session(
    conn: Connection, secrets: Secrets, user_id: UUID, *, password_hash: str, origin: str, client: str
) -> Grant:
    """Insert a session with its first refresh token, in the caller's transaction.

    The user is locked against changes meanwhile: whoever changes the password, disables or deletes the account ends
    this session, too, or keeps it from starting.

    Args:
        conn: in a transaction.
        secrets: what the token derives from.
        user_id: who logs in.
        password_hash: what their password was checked against.
        origin: the network prefix that they log in from.
        client: a short word for their software.

    Raises:
        CredentialsChangedError: that is not their password any more, or they may not log in any more.
    """
    session_id = uuid4()
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
    token = mint_refresh_token(secrets, RefreshToken(session_id, 0))
    return Grant(session_id, user_id, role, token, int(min(LIFE, IDLE_LIFE).total_seconds()))


async def refresh_session(
    conn: Connection, secrets: Secrets, text: str, *, limited: bool = True
) -> Grant | Reuse:
    """Exchange a refresh token for its child, in the caller's transaction.

    Only the first use of a token writes; those that come in its wake read the session and are given the same child.

    Args:
        conn: in a transaction.
        secrets: what tokens derive from.
        text: the token as it came.
        limited: whether a session may be refreshed too often.

    Returns:
        The grant; or the reuse of a token that had been used before, which must be committed before anything is
        raised. How old that token is does not matter while its session lives.

    Raises:
        RefreshTokenInvalidError: not ours, expired, or its session over.
        RateLimitedError: the session was refreshed too often; the token stays good.
    """
    token = read_refresh_token(secrets, text)
    if token is None:
        return await _exchange_legacy_token(conn, secrets, text)
    found = await _find_session(conn, token.session_id)
    if found is None or found.over:
        raise RefreshTokenInvalidError
    # A greater number than the row has is of ours too: the database forgot the last moments before a fail-over.
    if token.number >= found.number:
        if token.number == found.number and found.expires_in <= 0:
            raise RefreshTokenInvalidError
        if limited and found.pace > PACE.seconds:
            raise RateLimitedError(PACE.name, found.pace - PACE.seconds)
        await _count(conn, token)
        # By this request or by another one with this token: either way its child is good now.
        found = await _find_session(conn, token.session_id)
        if found is None or found.over:
            raise RefreshTokenInvalidError
    if token.number == found.number - 1 and found.in_grace:
        return _grant(secrets, token.session_id, found)
    return await end_reused(conn, token.session_id, found.user_id)


async def _exchange_legacy_token(conn: Connection, secrets: Secrets, text: str) -> Grant | Reuse:
    """Exchange a token that has a row of its own for the first numbered one of its session."""
    legacy = await legacy_token.find_token(conn, text, grace=REUSE_GRACE)
    found = None if legacy is None else await _find_session(conn, legacy.session_id)
    if legacy is None or found is None or found.over or (legacy.expired and not legacy.used):
        raise RefreshTokenInvalidError
    if found.number > 0 or (legacy.used and not legacy.in_grace):
        return await end_reused(conn, legacy.session_id, found.user_id)
    if not legacy.used:
        await legacy_token.spend_token(conn, text)
        found = await _find_session(conn, legacy.session_id) or found
    return _grant(secrets, legacy.session_id, found)


def _grant(secrets: Secrets, session_id: UUID, found: _Session) -> Grant:
    text = mint_refresh_token(secrets, RefreshToken(session_id, found.number))
    return Grant(session_id, found.user_id, found.role, text, int(found.expires_in))


async def end_reused(
    conn: Connection, session_id: UUID, user_id: UUID, *, reason: str = "refresh_token_reused"
) -> Reuse:
    """End the session of a token or cookie that came back, in the caller's transaction.

    Raises:
        RefreshTokenInvalidError: it has ended meanwhile.
    """
    # Locked as everywhere: the user, who is about to be told, before the session.
    await conn.execute("SELECT FROM users WHERE id = %(id)s FOR KEY SHARE", {"id": user_id})
    if not await end_session(conn, session_id, reason=reason):
        raise RefreshTokenInvalidError
    return Reuse(session_id, user_id)


async def _find_session(conn: Connection, session_id: UUID) -> _Session | None:
    async with conn.cursor(row_factory=class_row(_Session)) as cursor:
        await cursor.execute(
            f"""
            SELECT s.user_id, u.role, NOT ({ALIVE}) OR u.disabled_at IS NOT NULL AS over, s.refresh_count AS number,
                   extract(epoch FROM least(s.expires_at, coalesce(s.refreshed_at, s.created_at) + %(idle)s) - now()
                          )::float8 AS expires_in,
                   coalesce(s.refreshed_at > now() - %(grace)s, false) AS in_grace,
                   {_PACE} AS pace
              FROM sessions s
              JOIN users u ON u.id = s.user_id
             WHERE s.id = %(id)s
            """,  # noqa: S608 - constants
            {"id": session_id, "idle": IDLE_LIFE, "grace": REUSE_GRACE},
        )
        return await cursor.fetchone()


async def _count(conn: Connection, token: RefreshToken) -> None:
    """Make the child of a token the one that is good, unless another request did."""
    await conn.execute(
        f"""
        UPDATE sessions s
           SET refresh_count = %(number)s + 1, refreshed_at = now(), last_used_at = now(),
               refresh_pace = now() + make_interval(secs => {_PACE})
         WHERE s.id = %(id)s AND s.refresh_count <= %(number)s AND {ALIVE}
        """,  # noqa: S608 - constants
        {"id": token.session_id, "number": token.number},
    )
