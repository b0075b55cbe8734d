"""Accept a new version of the terms of use."""

from __future__ import annotations

import structlog

from regsvc.accounts.users import terms
from regsvc.accounts.users.terms import Acceptance
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import ACCOUNT, throttle_user
from regsvc.flows.service import Service
from regsvc.flows.signup.policy import TermsText, check_terms
from regsvc.schemas.fields import Body
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError

log = structlog.get_logger()


class TermsBody(Body):
    """The version that the user accepts."""

    terms: TermsText = None


async def read_acceptance(service: Service, token: AccessToken) -> Acceptance:
    """Return what the token's user accepted last.

    Raises:
        AccessTokenInvalidError: the account is gone or disabled.
    """
    async with service.pool.connection() as conn:
        found = await terms.get_acceptance(conn, token.user_id)
    if found is None:
        raise AccessTokenInvalidError
    return found


async def accept_own(service: Service, caller: Caller, token: AccessToken, body: TermsBody) -> Acceptance:
    """Store that the token's user accepts the present terms, and return it; without terms, change nothing.

    Raises:
        TermsNeededError: it is another version.
        RateLimitedError: the user changes too much.
        AccessTokenInvalidError: the account is gone or disabled.
    """
    version = check_terms(service.settings, body.terms)
    await throttle_user(service, caller, token, ACCOUNT)
    if version is not None:
        async with service.pool.transaction() as conn:
            changed = await terms.accept_terms(conn, token.user_id, version, caller.as_user(token))
        if changed:
            log.info("terms accepted", user=str(token.user_id), version=version)
    return await read_acceptance(service, token)
