"""Take an account back by the link in a security notice."""

from __future__ import annotations

from datetime import datetime

import structlog

from regsvc.accounts.registrations.confirmation import TokenInvalidError
from regsvc.accounts.users import panic
from regsvc.flows.account.email_change import LinkBody
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import admit
from regsvc.flows.service import Service
from regsvc.security.tokens import read_account_token

log = structlog.get_logger()


async def take_back(service: Service, caller: Caller, body: LinkBody) -> datetime | None:
    """Take an account back, or return when that is possible: a new address is notified first.

    Raises:
        ChallengeNeededError: proof of work is due.
        RateLimitedError: this client tries too many links.
        TokenInvalidError, PanicExpiredError: the link is none of ours, or no longer good.
    """
    await admit(service, caller, "undo")
    token = read_account_token(body.token)
    if token is None:
        raise TokenInvalidError
    by = caller.as_anyone()
    async with service.pool.transaction() as conn:
        usable_at = await panic.begin_panic(conn, service.secrets, token, by)
    if usable_at is not None:
        log.warning("account will be taken back", mail=str(token.id))
        return usable_at
    async with service.pool.transaction() as conn:
        user_id = await panic.panic(conn, service.secrets, token, by)
    log.warning("account taken back", user=str(user_id))
    return None
