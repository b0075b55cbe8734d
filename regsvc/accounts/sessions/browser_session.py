"""Browser sessions: ordinary sessions identified by a cookie.

The cookie holds the session's id and the number of its newest cookie, and is renewed once a day (ASVS 5.0, 7.2.4). A
cookie whose successor the browser has already shown is a stolen copy and ends the session, as with refresh tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from regsvc.accounts.sessions.refresh_token import RefreshTokenInvalidError, Reuse, end_reused
from regsvc.accounts.sessions.session import ALIVE, IDLE_LIFE
from regsvc.postgres.connection import Connection
from regsvc.security.signing.access_token import AccessToken
from regsvc.security.tokens import SessionCookie

RENEW_AFTER = timedelta(hours=24)
OVERLAP = timedelta(minutes=1)  # for requests sent before the renewed cookie arrived


@dataclass(frozen=True)
class Resumed:
    """A browser with a valid session.

    Args:
        token: access token of the session.
        renewed: the cookie to set; None if the browser has the newest one.
    """

    token: AccessToken
    renewed: SessionCookie | None


@dataclass(frozen=True)
class _Session:
    token: AccessToken
    number: int  # of the newest cookie
    seen: bool  # the browser has shown it
    due: bool  # it is a day old
    overlaps: bool  # so new that requests with the previous one may still arrive


async def resume_session(conn: Connection, cookie: SessionCookie) -> Resumed | Reuse | None:
    """Return the browser's session, or None if it has ended; record its use once a minute.

    Like a refresh token it expires after 30 days, or after 7 days without use.

    Args:
        conn: in a transaction.
        cookie: from the browser; its MAC has been checked.

    Returns:
        `Reuse` for a cookie that was already renewed; its session has been ended, which the caller must commit.
    """
    found = await _find_session(conn, cookie)
    if found is None:
        return None
    if cookie.number < found.number:
        if cookie.number == found.number - 1 and (found.overlaps or not found.seen):
            return Resumed(found.token, SessionCookie(cookie.session_id, found.number))
        try:
            return await end_reused(
                conn, cookie.session_id, found.token.user_id, reason="session_cookie_reused"
            )
        except RefreshTokenInvalidError:  # by a concurrent request
            return None
    if not found.due:
        await _note_use(conn, cookie)
        return Resumed(found.token, None)
    await _renew(conn, cookie)
    return Resumed(found.token, SessionCookie(cookie.session_id, cookie.number + 1))


async def _find_session(conn: Connection, cookie: SessionCookie) -> _Session | None:
    async with conn.cursor() as cursor:
        await cursor.execute(
            f"""
            SELECT s.user_id, s.id, u.role, s.amr, s.refresh_count, s.renewal_seen,
                   coalesce(s.refreshed_at, s.created_at) <= now() - %(renew_after)s,
                   coalesce(s.refreshed_at > now() - %(overlap)s, false)
              FROM sessions s
              JOIN users u ON u.id = s.user_id AND u.disabled_at IS NULL
             WHERE s.id = %(id)s AND {ALIVE} AND s.last_used_at > now() - %(idle)s
            """,  # noqa: S608 - a constant of that module
            {"id": cookie.session_id, "idle": IDLE_LIFE, "renew_after": RENEW_AFTER, "overlap": OVERLAP},
        )
        row = await cursor.fetchone()
    if row is None:
        return None
    user_id, session_id, role, amr, number, seen, due, overlaps = row
    return _Session(AccessToken(user_id, session_id, role, tuple(amr)), number, seen, due, overlaps)


async def _note_use(conn: Connection, cookie: SessionCookie) -> None:
    await conn.execute(
        """
        UPDATE sessions SET last_used_at = now(), renewal_seen = true
         WHERE id = %(id)s AND (NOT renewal_seen OR last_used_at < now() - interval '1 minute')
        """,
        {"id": cookie.session_id},
    )


async def _renew(conn: Connection, cookie: SessionCookie) -> None:
    """Make the child of a cookie the newest unless a concurrent request did."""
    await conn.execute(
        """
        UPDATE sessions
           SET refresh_count = %(number)s + 1, refreshed_at = now(), last_used_at = now(), renewal_seen = false
         WHERE id = %(id)s AND refresh_count <= %(number)s
        """,
        {"id": cookie.session_id, "number": cookie.number},
    )
