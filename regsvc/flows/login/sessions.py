"""Refresh and end sessions."""

from __future__ import annotations

from uuid import UUID

import structlog

from regsvc.accounts.audit.record import record
from regsvc.accounts.sessions import refresh_token, session
from regsvc.accounts.sessions.browser_session import Resumed, resume_session
from regsvc.accounts.sessions.refresh_token import Grant, Reuse
from regsvc.accounts.users.notices import add_notice
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import ACCOUNT, throttle_user
from regsvc.flows.service import Service
from regsvc.security.signing.access_token import AccessToken
from regsvc.security.tokens import SessionCookie

log = structlog.get_logger()


async def refresh(service: Service, caller: Caller, text: str) -> Grant:
    """Exchange a refresh token for what a new pair of tokens is made of.

    Raises:
        RefreshTokenInvalidError: it is none of ours, or no longer good.
        RefreshTokenReusedError: it was used before; the session has ended and its user is told.
        RateLimitedError: the session is refreshed again and again; the token stays good.
    """
    async with service.pool.transaction() as conn:
        found = await refresh_token.refresh_session(conn, service.secrets, text, limited=caller.limited)
        if isinstance(found, Reuse):
            by = caller.as_anyone()
            await record(
                conn, "refresh_token_reused", by, user_id=found.user_id, session=str(found.session_id)
            )
            await add_notice(conn, found.user_id, "refresh_token_reused", by)
    if isinstance(found, Reuse):
        log.warning("refresh token reused", user=str(found.user_id), session=str(found.session_id))
        raise refresh_token.RefreshTokenReusedError
    return found


async def resume(service: Service, caller: Caller, cookie: SessionCookie) -> Resumed | None:
    """Return who acts in the session of a browser's cookie, or None if it is over.

    A cookie whose successor was shown before ends the session, and its user is told.
    """
    async with service.pool.transaction() as conn:
        found = await resume_session(conn, cookie)
        if isinstance(found, Reuse):
            by = caller.as_anyone()
            await record(
                conn, "session_cookie_reused", by, user_id=found.user_id, session=str(found.session_id)
            )
            await add_notice(conn, found.user_id, "refresh_token_reused", by)
    if isinstance(found, Reuse):
        log.warning("session cookie reused", user=str(found.user_id), session=str(found.session_id))
        return None
    return found


async def log_out(service: Service, caller: Caller, token: AccessToken) -> None:
    """End the session that a caller is in."""
    async with service.pool.transaction() as conn:
        await session.end_session(conn, token.session_id, reason="logout")
        await record(conn, "logged_out", caller.as_user(token))


async def log_out_everywhere(service: Service, caller: Caller, token: AccessToken) -> None:
    """End every session of a user."""
    async with service.pool.transaction() as conn:
        ended = await session.end_all_sessions(conn, token.user_id, reason="logout_all")
        await record(conn, "logged_out_everywhere", caller.as_user(token), sessions=ended)


async def end_session(service: Service, caller: Caller, token: AccessToken, wanted: UUID) -> None:
    """End one of a user's own sessions, and with it its tokens.

    Raises:
        SessionNotFoundError: it is not theirs, or has ended.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    async with service.pool.transaction() as conn:
        await session.end_own_session(conn, token.user_id, wanted, reason="ended_by_user")
        await record(conn, "session_ended", caller.as_user(token), session=str(wanted))
    log.info("session ended", user=str(token.user_id), session=str(wanted))
