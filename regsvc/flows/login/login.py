"""Log in with an address and a password."""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import StringConstraints

from regsvc.accounts.address import find_key
from regsvc.accounts.audit.record import record
from regsvc.accounts.limits.login_attempts import LoginTry
from regsvc.accounts.sessions import refresh_token
from regsvc.accounts.sessions.refresh_token import Grant
from regsvc.accounts.users import user
from regsvc.errors import InvalidCredentialsError, OverloadedError
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import login_attempt
from regsvc.flows.service import Service
from regsvc.schemas.fields import Body, PasswordText

log = structlog.get_logger()


class LoginBody(Body):
    """The credentials. A text that is no address counts as an unknown address."""

    email: Annotated[str, StringConstraints(max_length=320)]
    password: PasswordText


async def log_in(service: Service, caller: Caller, email: str, password: str) -> Grant:
    """Start a session for a client that gives an address and its password.

    Raises:
        InvalidCredentialsError: the address has no account, or the password is wrong.
        RateLimitedError: the client is too fast, or guesses.
        OverloadedError: too many passwords wait to be verified.
    """
    key = find_key(email) or ""
    async with login_attempt(service, caller, key or f"? {email}", InvalidCredentialsError) as tried:
        started = await _log_in(service, caller, key, password, tried)
    log.info("logged in", user=str(started.user_id), session=str(started.session_id))
    return started


async def _log_in(
    service: Service,
    caller: Caller,
    email_key: str,
    password: str,
    tried: LoginTry | None,
    *,
    again: bool = True,
) -> Grant:
    async with service.pool.connection() as conn:
        credentials = await user.find_credentials(conn, email_key)
    verdict = await service.lane.verify(
        password,
        credentials.password_hash if credentials else None,
        owner=caller.line,
        known=tried is not None and tried.known,
    )
    if verdict.unreadable and credentials is not None:
        log.error("stored password hash not readable", user=str(credentials.user_id))
    if credentials is None or not verdict.ok:
        # The same statement for every attempt; where there is no user, it has a null.
        known = None if credentials is None else credentials.user_id
        async with service.pool.connection() as conn:
            await record(conn, "login_failed", caller.as_anyone(), user_id=known)
        raise InvalidCredentialsError
    stored = credentials.password_hash
    fresh = await _rehash(service, caller, password) if verdict.rehash_needed else None
    if fresh is not None:
        async with service.pool.connection() as conn:
            await user.replace_password_hash(conn, credentials.user_id, old=stored, new=fresh)
    try:
        async with service.pool.connection(alone=True) as conn:
            started = await refresh_token.log_in(
                conn,
                service.secrets,
                credentials.user_id,
                password_hash=fresh or stored,
                by=caller.as_anyone(),
                tried=tried,
            )
    except refresh_token.CredentialsChangedError:
        if not again:
            raise InvalidCredentialsError from None
        # Most likely another login replaced an old hash at this moment: try once more.
        return await _log_in(service, caller, email_key, password, tried, again=False)
    return started


async def _rehash(service: Service, caller: Caller, password: str) -> str | None:
    """Return a new hash of a verified password, or None under load: a later login can do it."""
    try:
        return await service.lane.hash(password, owner=caller.line, known=True)
    except OverloadedError:
        return None
