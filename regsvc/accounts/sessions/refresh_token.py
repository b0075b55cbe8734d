"""Refresh tokens, which keep a session alive.

A refresh token is a session's id, a number and a MAC over both; the session's row holds the valid number. Each token is
valid once. Parallel requests with one token receive the same child, so that no client is logged out. A later reuse
means theft and ends the session, whatever the token's age (RFC 9700 section 4.14.2). A session stays one row, however
often it is refreshed.

Until 0.2 every token was random and had a row. Such tokens are exchanged for numbered ones until they expire, in
`regsvc.accounts.sessions.legacy_token`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.limits.rate_limit import Limit, RateLimitedError
from regsvc.accounts.sessions import legacy_token
from regsvc.accounts.sessions.session import ALIVE, IDLE_LIFE, end_session
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.signing.access_token import AccessToken
from regsvc.security.tokens import RefreshToken, Secrets, mint_refresh_token, read_refresh_token

REUSE_GRACE = timedelta(seconds=10)
# Rate limit of refreshes. A client refreshes every ten minutes; a loop would write as fast as the disk allows.
PACE = Limit("refresh", 10, 60)
# Seconds of the limit that one more refresh would use (the generic cell rate algorithm, as in `rate_limit`).
_PACE = f"(extract(epoch FROM greatest(s.refresh_pace, now()) - now())::float8 + {PACE.seconds / PACE.quota})"


class RefreshTokenInvalidError(RegsvcError):
    """The refresh token is unknown or expired, or its session has ended. Log in again."""

    code = "refresh_token_invalid"


class RefreshTokenReusedError(RegsvcError):
    """The refresh token was already used. The session has been ended. Log in again."""

    code = "refresh_token_reused"


class CredentialsChangedError(RegsvcError):
    """The account was changed, disabled or deleted while the password was being checked."""


@dataclass(frozen=True, repr=False)
class Grant:
    """A session and its refresh token for the client."""

    session_id: UUID
    user_id: UUID
    role: str
    refresh_token: str
    refresh_expires_in: int  # seconds
    amr: Sequence[str]  # how the user authenticated (RFC 8176)
    auth_time: int  # and when, in seconds since 1970

    def token(self) -> AccessToken:
        """Return the contents of this session's access token."""
        return AccessToken(self.user_id, self.session_id, self.role, tuple(self.amr), self.auth_time)


@dataclass(frozen=True)
class Reuse:
    """Reuse of an exchanged refresh token: a copy of it exists. Its session has been ended."""

    session_id: UUID
    user_id: UUID


@dataclass(frozen=True)
class Refreshed:
    """The session of a presented token."""

    user_id: UUID
    role: str
    over: bool
    number: int  # of the valid token
    expires_in: float  # seconds until it expires
    in_grace: bool  # it was issued within the grace period
    pace: float  # seconds of the rate limit that one more refresh would use
    amr: list[str]
    auth_time: int  # seconds since 1970


async def refresh_session(
    conn: Connection, secrets: Secrets, text: str, *, limited: bool = True
) -> Grant | Reuse:
    """Exchange a refresh token for its child, in the caller's transaction.

    Only the first use of a token writes; parallel uses read the session and receive the same child.

    Args:
        conn: in a transaction.
        secrets: derive tokens.
        text: the token as received.
        limited: whether the rate limit applies.

    Returns:
        The grant, or `Reuse` of an exchanged token, which the caller must commit before it raises an error. The age
        of the token does not matter while its session lives.

    Raises:
        RefreshTokenInvalidError: unknown, expired, or its session has ended.
        RateLimitedError: the session was refreshed too often; the token stays valid.
    """
    token = read_refresh_token(secrets, text)
    if token is None:
        return await _exchange_legacy_token(conn, secrets, text)
    found = await find_refreshed(conn, token.session_id)
    if found is None or found.over:
        raise RefreshTokenInvalidError
    # A number above the row's is ours too: the database lost its last moments in a fail-over.
    if token.number >= found.number:
        if token.number == found.number and found.expires_in <= 0:
            raise RefreshTokenInvalidError
        if limited and found.pace > PACE.seconds:
            raise RateLimitedError(PACE.name, found.pace - PACE.seconds)
        await _count(conn, token)
        # By this or a parallel request with this token: either way its child is now valid.
        found = await find_refreshed(conn, token.session_id)
        if found is None or found.over:
            raise RefreshTokenInvalidError
    if token.number == found.number - 1 and found.in_grace:
        return _grant(secrets, token.session_id, found)
    return await end_reused(conn, token.session_id, found.user_id)


async def _exchange_legacy_token(conn: Connection, secrets: Secrets, text: str) -> Grant | Reuse:
    """Exchange a legacy token for the first numbered token of its session."""
    legacy = await legacy_token.find_token(conn, text, grace=REUSE_GRACE)
    found = None if legacy is None else await find_refreshed(conn, legacy.session_id)
    if legacy is None or found is None or found.over or (legacy.expired and not legacy.used):
        raise RefreshTokenInvalidError
    if found.number > 0 or (legacy.used and not legacy.in_grace):
        return await end_reused(conn, legacy.session_id, found.user_id)
    if not legacy.used:
        await legacy_token.spend_token(conn, text)
        found = await find_refreshed(conn, legacy.session_id) or found
    return _grant(secrets, legacy.session_id, found)


def _grant(secrets: Secrets, session_id: UUID, found: Refreshed) -> Grant:
    text = mint_refresh_token(secrets, RefreshToken(session_id, found.number))
    return Grant(
        session_id, found.user_id, found.role, text, int(found.expires_in), found.amr, found.auth_time
    )


async def end_reused(
    conn: Connection, session_id: UUID, user_id: UUID, *, reason: str = "refresh_token_reused"
) -> Reuse:
    """End the session of a reused token or cookie, in the caller's transaction.

    Raises:
        RefreshTokenInvalidError: the session has already ended.
    """
    # The usual lock order: the user, who is notified, before the session.
    await conn.execute("SELECT FROM users WHERE id = %(id)s FOR KEY SHARE", {"id": user_id})
    if not await end_session(conn, session_id, reason=reason):
        raise RefreshTokenInvalidError
    return Reuse(session_id, user_id)


async def find_refreshed(conn: Connection, session_id: UUID) -> Refreshed | None:
    """Return the session of a presented token, also one that is over; None if there is none."""
    async with conn.cursor(row_factory=class_row(Refreshed)) as cursor:
        await cursor.execute(
            f"""
            SELECT s.user_id, u.role, NOT ({ALIVE}) OR u.disabled_at IS NOT NULL AS over, s.refresh_count AS number,
                   extract(epoch FROM least(s.expires_at, coalesce(s.refreshed_at, s.created_at) + %(idle)s) - now()
                          )::float8 AS expires_in,
                   coalesce(s.refreshed_at > now() - %(grace)s, false) AS in_grace,
                   {_PACE} AS pace, s.amr,
                   floor(extract(epoch FROM coalesce(s.auth_time, s.created_at)))::bigint AS auth_time
              FROM sessions s
              JOIN users u ON u.id = s.user_id
             WHERE s.id = %(id)s
            """,  # noqa: S608 - constants
            {"id": session_id, "idle": IDLE_LIFE, "grace": REUSE_GRACE},
        )
        return await cursor.fetchone()


async def _count(conn: Connection, token: RefreshToken) -> None:
    """Make the child of a token the valid one unless a parallel request did."""
    await conn.execute(
        f"""
        UPDATE sessions s
           SET refresh_count = %(number)s + 1, refreshed_at = now(), last_used_at = now(),
               refresh_pace = now() + make_interval(secs => {_PACE})
         WHERE s.id = %(id)s AND s.refresh_count <= %(number)s AND {ALIVE}
        """,  # noqa: S608 - constants
        {"id": token.session_id, "number": token.number},
    )
