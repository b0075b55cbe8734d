"""The second step of a login."""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import StringConstraints

from regsvc.accounts.factors.pending_logins import (
    MfaTokenInvalidError,
    complete_second_step,
    count_try,
    find_pending_login,
)
from regsvc.accounts.sessions.refresh_token import CredentialsChangedError, Grant
from regsvc.accounts.sessions.session_start import log_in
from regsvc.flows.caller import Caller
from regsvc.flows.factors.check import AnyFactorBody, check_factor
from regsvc.flows.login.completion import BOTH
from regsvc.flows.rate_limits import SECOND_FACTOR, throttle
from regsvc.flows.service import Service
from regsvc.postgres.connection import Connection

log = structlog.get_logger()


class SecondFactorBody(AnyFactorBody):
    """The token of the first step, and one factor."""

    mfa_token: Annotated[str, StringConstraints(max_length=128)]


async def pass_second_factor(service: Service, caller: Caller, body: SecondFactorBody) -> Grant:
    """Start the session of a login whose first step has passed.

    The counted attempt of the first step is forgiven, and the client known, in the transaction that takes the factor.

    Raises:
        MfaTokenInvalidError: the login has expired, was completed, or had its five tries.
        FactorInvalidError: the factor is wrong or was already used.
        RateLimitedError: the client is too fast, or too many factors of this account were wrong.
    """
    await throttle(service, caller, SECOND_FACTOR)
    async with service.pool.connection() as conn:
        pending = await find_pending_login(conn, body.mfa_token)

    async def start(conn: Connection, amr: list[str]) -> Grant:
        await complete_second_step(conn, body.mfa_token)
        try:
            return await log_in(
                conn,
                service.secrets,
                pending.user_id,
                password_hash=pending.password_hash,
                amr=[*pending.amr, *(each for each in amr if each not in pending.amr), BOTH],
                by=caller.as_anyone(),
                tried=pending.tried,
            )
        except CredentialsChangedError:
            raise MfaTokenInvalidError from None

    async def count(conn: Connection) -> None:
        await count_try(conn, body.mfa_token)

    started = await check_factor(service, caller, pending, body, start, by=caller.as_anyone(), before=count)
    log.info("logged in", user=str(started.user_id), session=str(started.session_id))
    return started
