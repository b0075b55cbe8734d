"""Complete a login: every way in ends here, whatever its first step was."""

from __future__ import annotations

from collections.abc import Sequence

from regsvc.accounts.factors.methods import list_second_factors
from regsvc.accounts.factors.pending_logins import SecondFactorRequiredError, begin_second_step
from regsvc.accounts.limits.login_attempts import LoginTry
from regsvc.accounts.sessions.refresh_token import Grant
from regsvc.accounts.sessions.session_start import log_in
from regsvc.accounts.users.user import Credentials
from regsvc.flows.caller import Caller
from regsvc.flows.service import Service

BOTH = "mfa"  # RFC 8176: several factors were used


async def complete_login(
    service: Service,
    caller: Caller,
    credentials: Credentials,
    *,
    amr: Sequence[str],
    both: bool = False,
    tried: LoginTry | None = None,
) -> Grant:
    """Start a session for a user whose first step has passed, or ask for the second factor.

    Args:
        service: what to work with.
        caller: who asks.
        credentials: of the user, as the first step read them.
        amr: what the first step proved, by the names of RFC 8176, such as `pwd`.
        both: it counts as both factors: a passkey that verified its user.
        tried: the counted login attempt. It is forgiven, and the client known, when the login is complete.

    Raises:
        SecondFactorRequiredError: the user has a second factor, and one alone was proved.
        CredentialsChangedError: the account was changed, disabled or deleted meanwhile.
    """
    if credentials.second_factor and not both:
        async with service.pool.connection(alone=True) as conn:
            token = await begin_second_step(conn, credentials, amr=amr, tried=tried, by=caller.as_anyone())
            methods = await list_second_factors(conn, credentials.user_id)
        raise SecondFactorRequiredError(token, methods)
    async with service.pool.connection(alone=True) as conn:
        return await log_in(
            conn,
            service.secrets,
            credentials.user_id,
            password_hash=credentials.password_hash,
            amr=[*amr, BOTH] if both else amr,
            by=caller.as_anyone(),
            tried=tried,
        )
