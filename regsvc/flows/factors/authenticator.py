"""Set up and remove an authenticator app, with the recovery codes that go with it."""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import Field

from regsvc.accounts.audit.record import record
from regsvc.accounts.factors import totp
from regsvc.accounts.factors.recovery_codes import remove_recovery_codes, renew_recovery_codes
from regsvc.accounts.factors.totp import Setup
from regsvc.accounts.registrations.confirmation_code import read_code
from regsvc.accounts.users.notices import add_change_notice
from regsvc.accounts.users.user import get_user
from regsvc.flows.caller import Caller
from regsvc.flows.factors.check import FactorText
from regsvc.flows.login.proof import lock_session, require_proof
from regsvc.flows.rate_limits import ACCOUNT, throttle_user
from regsvc.flows.service import Service
from regsvc.schemas.fields import Body
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError

log = structlog.get_logger()


class TotpCodeBody(Body):
    """The first code of the app."""

    code: Annotated[
        FactorText, Field(description="Six digits of the authenticator app.", examples=["287082"])
    ]


async def begin_totp(service: Service, caller: Caller, token: AccessToken) -> tuple[Setup, str]:
    """Make a secret for an authenticator app, and return it with the `otpauth:` URI that apps read.

    An app that is in use stays in use until the new one is confirmed.

    Raises:
        ProofNeededError: the session has not proved its user.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    await require_proof(service, caller, token)
    async with service.pool.transaction() as conn:
        await lock_session(conn, token)
        user = await get_user(conn, token.user_id)
        if user is None:
            raise AccessTokenInvalidError
        setup = await totp.begin_setup(conn, service.secrets, token.user_id, token.session_id)
    return setup, setup.uri(issuer=service.settings.brand_name, account=user.email)


async def confirm_totp(service: Service, caller: Caller, token: AccessToken, body: TotpCodeBody) -> list[str]:
    """Put the app of a session's setup into use by its first code, and return new recovery codes.

    Raises:
        TotpNotBegunError: the session has begun no setup, or its time is over.
        TotpCodeInvalidError: the code is not of that app.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    code = read_code(body.code)
    if code is None:
        raise totp.TotpCodeInvalidError
    by = caller.as_user(token)
    async with service.pool.transaction() as conn:
        await lock_session(conn, token)
        await totp.confirm_setup(conn, service.secrets, token.user_id, token.session_id, code)
        codes = await renew_recovery_codes(conn, service.secrets, token.user_id)
        await record(conn, "totp_added", by)
        await add_change_notice(conn, token.user_id, "totp_added", by)
    log.info("authenticator app added", user=str(token.user_id))
    return codes


async def remove_totp(service: Service, caller: Caller, token: AccessToken) -> None:
    """Remove the authenticator app and the recovery codes.

    Raises:
        TotpMissingError: there is none.
        ProofNeededError: the session has not proved its user.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    await require_proof(service, caller, token)
    by = caller.as_user(token)
    async with service.pool.transaction() as conn:
        await lock_session(conn, token)
        if not await totp.remove_totp(conn, token.user_id):
            raise totp.TotpMissingError
        await remove_recovery_codes(conn, token.user_id)
        await record(conn, "totp_removed", by)
        await add_change_notice(conn, token.user_id, "totp_removed", by)
    log.info("authenticator app removed", user=str(token.user_id))


async def renew_codes(service: Service, caller: Caller, token: AccessToken) -> list[str]:
    """Make new recovery codes in place of the old ones, and return them.

    Raises:
        TotpMissingError: there is no authenticator app that they could stand in for.
        ProofNeededError: the session has not proved its user.
        RateLimitedError: the user changes too much.
    """
    await throttle_user(service, caller, token, ACCOUNT)
    await require_proof(service, caller, token)
    by = caller.as_user(token)
    async with service.pool.transaction() as conn:
        await lock_session(conn, token)
        if (await totp.find_totp(conn, token.user_id)) is None:
            raise totp.TotpMissingError
        codes = await renew_recovery_codes(conn, service.secrets, token.user_id)
        await record(conn, "recovery_codes_renewed", by)
        await add_change_notice(conn, token.user_id, "recovery_codes_renewed", by)
    log.info("recovery codes renewed", user=str(token.user_id))
    return codes
