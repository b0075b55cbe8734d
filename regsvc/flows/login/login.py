"""Log in with an address and a password."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import structlog
from pydantic import StringConstraints

from regsvc.accounts.address import find_key
from regsvc.accounts.audit.record import record
from regsvc.accounts.factors.pending_logins import SecondFactorRequiredError
from regsvc.accounts.limits.login_attempts import LoginTry
from regsvc.accounts.sessions.refresh_token import CredentialsChangedError, Grant
from regsvc.accounts.users import user
from regsvc.accounts.users.user import Credentials
from regsvc.errors import InvalidCredentialsError, OverloadedError
from regsvc.flows.caller import Caller
from regsvc.flows.login.completion import complete_login
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
        ChallengeNeededError: proof of work is due.
        RateLimitedError: the client is too fast, or guesses.
        OverloadedError: too many passwords wait to be verified.
        SecondFactorRequiredError: the password is right, and the second factor is missing.
    """
    key = find_key(email)
    address = key or f"? {email!a}"  # a text that PostgreSQL can store, and that is no address
    # An attempt whose second factor is missing stays counted until that has come.
    failures = (InvalidCredentialsError, SecondFactorRequiredError)
    async with login_attempt(service, caller, address, *failures, purpose="login") as opened:
        try:
            started = await _log_in(service, caller, opened.credentials, password, opened.tried)
        except CredentialsChangedError:
            # Most likely another login replaced an old hash at this moment: try once more.
            async with service.pool.connection() as conn:
                credentials = await user.find_credentials(conn, address)
            try:
                started = await _log_in(service, caller, credentials, password, opened.tried)
            except CredentialsChangedError:
                raise InvalidCredentialsError from None
    log.info("logged in", user=str(started.user_id), session=str(started.session_id))
    return started


async def _log_in(
    service: Service,
    caller: Caller,
    credentials: Credentials | None,
    password: str,
    tried: LoginTry | None,
) -> Grant:
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
    fresh = await _rehash(service, caller, password) if verdict.rehash_needed else None
    if fresh is not None:
        async with service.pool.connection() as conn:
            await user.replace_password_hash(
                conn, credentials.user_id, old=credentials.password_hash, new=fresh
            )
        credentials = replace(credentials, password_hash=fresh)
    return await complete_login(service, caller, credentials, amr=["pwd"], tried=tried)


async def _rehash(service: Service, caller: Caller, password: str) -> str | None:
    """Return a new hash of a verified password, or None under load: a later login can do it."""
    try:
        return await service.lane.hash(password, owner=caller.line, known=True)
    except OverloadedError:
        return None
