"""Proving once more who one is, before something that a session alone must not do."""

from __future__ import annotations

import structlog

from regsvc.accounts import user
from regsvc.accounts.audit import record
from regsvc.accounts.password import WrongPasswordError
from regsvc.accounts.user import Credentials
from regsvc.http.audited import by_user
from regsvc.http.context import Context
from regsvc.security.keys import AccessToken, AccessTokenInvalidError

log = structlog.get_logger()


async def verify_password(context: Context, token: AccessToken, password: str) -> Credentials:
    """See that whoever holds a session knows the password, too; to be called outside of any transaction.

    Args:
        context: what to work with.
        token: of the session.
        password: as typed.

    Returns:
        What it was held against: the caller makes sure in its transaction that this has not changed.

    Raises:
        WrongPasswordError: it is another one.
        AccessTokenInvalidError: the account is gone or disabled.
        OverloadedError: too many passwords wait to be verified.
    """
    async with context.pool.connection() as conn:
        credentials = await user.get_credentials(conn, token.user_id)
    if credentials is None:
        raise AccessTokenInvalidError
    verdict = await context.lane.verify(password, credentials.password_hash)
    if verdict.unreadable:
        log.error("stored password hash not readable", user=str(credentials.user_id))
    if not verdict.ok:
        async with context.pool.connection() as conn:
            await record(conn, "password_refused", by_user(token))
        raise WrongPasswordError
    return credentials
