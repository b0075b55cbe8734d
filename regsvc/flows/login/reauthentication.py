"""Verify a user's password again before an act that a session alone must not do."""

from __future__ import annotations

from uuid import UUID

import structlog

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.limits.login_attempts import forgive_tries
from regsvc.accounts.users import user
from regsvc.accounts.users.password import WrongPasswordError
from regsvc.accounts.users.user import Credentials
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import login_attempt
from regsvc.flows.service import Service
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError

log = structlog.get_logger()


async def verify_password(service: Service, caller: Caller, token: AccessToken, password: str) -> Credentials:
    """Verify the password of a session's user. Call it outside of any transaction.

    It counts as a login attempt for this address, so a stolen session guesses no faster.

    Args:
        service: what to work with.
        caller: who asks.
        token: of the session.
        password: as typed.

    Returns:
        What it was held against: the caller makes sure in its transaction that this has not changed.

    Raises:
        WrongPasswordError: it is another one.
        RateLimitedError: the client is too fast, or guesses.
        AccessTokenInvalidError: the account is gone or disabled.
        OverloadedError: too many passwords wait to be verified.
    """
    return await verify_password_of(service, caller, token.user_id, password, caller.as_user(token))


async def verify_password_of(
    service: Service, caller: Caller, user_id: UUID, password: str, by: By
) -> Credentials:
    """Check the password of an account that a client acts for without a session; as `verify_password`."""
    async with service.pool.connection() as conn:
        credentials = await user.get_credentials(conn, user_id)
    if credentials is None:
        raise AccessTokenInvalidError
    async with login_attempt(service, caller, credentials.email_key, WrongPasswordError) as opened:
        verdict = await service.lane.verify(
            password, credentials.password_hash, owner=caller.line, known=True
        )
        if verdict.unreadable:
            log.error("stored password hash not readable", user=str(credentials.user_id))
        if not verdict.ok:
            async with service.pool.connection() as conn:
                await record(conn, "password_refused", by, user_id=user_id)
            raise WrongPasswordError
        if opened.tried is not None:
            async with service.pool.transaction() as conn:
                await forgive_tries(conn, opened.tried)
    return credentials
