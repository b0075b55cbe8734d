"""Rate limits of clients and users.

What a mail costs its receiver is another matter: that is the mail schedule (`regsvc.accounts.limits.mail_schedule`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog
import trio

from regsvc.accounts.audit.record import record
from regsvc.accounts.limits import login_attempts
from regsvc.accounts.limits.login_attempts import LoginTry, Place, withdraw_try
from regsvc.accounts.limits.rate_limit import Demand, Limit, RateLimitedError, demand, take_permits
from regsvc.errors import DatabaseUnavailableError, RegsvcError
from regsvc.flows.caller import Caller
from regsvc.flows.service import Service
from regsvc.metrics import RATE_LIMITED
from regsvc.security.signing.access_token import AccessToken

log = structlog.get_logger()

_MINUTE = 60
_DAY = 24 * 60 * _MINUTE
_WITHDRAWAL = 1.0  # seconds

LOGIN = Limit("login", 20, _MINUTE)
LOGIN_ADDRESS = Limit("login-address", 5, _MINUTE)
SECOND_FACTOR = Limit("second-factor", 20, _MINUTE)
REGISTER = Limit("register", 20, _MINUTE)
REGISTER_DAY = Limit("register-day", 300, _DAY)
CONFIRM = Limit("confirm", 30, 5 * _MINUTE)
SIGNUP_CHECK = Limit("signup-check", 120, _MINUTE)
WIDE = 8  # clients' worth of each limit for a /48
MAIL_REQUEST = Limit("mail-request", 30, 5 * _MINUTE)
# Of a user, from wherever they come: what is written for them is kept, some of it for more than a year.
ACCOUNT = Limit("account", 60, 60 * _MINUTE)
EXPORT = Limit("export", 5, 60 * _MINUTE)


def widen(limit: Limit) -> Limit:
    """Return the limit of a whole /48 of IPv6: as many as several clients have, and not as 65,536."""
    return Limit(f"{limit.name}-48", limit.quota * WIDE, limit.seconds)


async def throttle(service: Service, caller: Caller, *limits: Limit | tuple[Limit, str]) -> None:
    """Count a request against limits of its client, before it costs anything.

    A request that fails afterwards counts, too.

    Args:
        service: where limits are counted.
        caller: whose request it is; its standings are filled in.
        limits: all of them count it, or none does. One that comes with a text, such as the address that was typed,
            is of the client and that text together.

    Raises:
        RateLimitedError: one of them has nothing left.
        DatabaseUnavailableError: the limits cannot be counted.
    """
    if not caller.limited:
        return
    asked = [it if isinstance(it, tuple) else (it,) for it in limits]
    demands = [demand(service.secrets, limit, caller.network, *whom) for limit, *whom in asked]
    if caller.wide_network:
        demands += [
            demand(service.secrets, widen(limit), caller.wide_network, *whom) for limit, *whom in asked
        ]
    await _take(service, caller, demands, shown=len(asked))


async def throttle_user(service: Service, caller: Caller, token: AccessToken, limit: Limit) -> None:
    """Count a request against a limit of the token's user, before it writes anything.

    Args:
        service: where limits are counted.
        caller: whose request it is; its standings are filled in.
        token: of the user.
        limit: what counts it.

    Raises:
        RateLimitedError: it has nothing left.
        DatabaseUnavailableError: the limit cannot be counted.
    """
    if caller.limited:
        await _take(service, caller, [demand(service.secrets, limit, str(token.user_id))], shown=1)


async def _take(service: Service, caller: Caller, demands: Sequence[Demand], *, shown: int) -> None:
    try:
        service.refused.check(demands)
        async with service.pool.connection() as conn:
            caller.standings = (await take_permits(conn, demands))[:shown]
    except RateLimitedError as error:
        caller.standings = error.standings[:shown]
        if len(error.standings) == len(demands):
            service.refused.note(demands, error.standings)
        note_refusal(service, caller, error)
        raise


@asynccontextmanager
async def login_attempt(
    service: Service, caller: Caller, address: str, *failures: type[RegsvcError]
) -> AsyncIterator[LoginTry | None]:
    """Count a login attempt, and take it back when the block ends before the password was found right or wrong.

    A client that hung up, a database that failed or a full hashing line are no wrong guesses.

    Args:
        service: where limits are counted.
        caller: whose attempt it is.
        address: as typed; whether it has an account makes no difference.
        failures: what the block raises when the password is wrong; the attempt stays counted then.

    Yields:
        The attempt, for the block to forgive when it succeeds; None where no limits apply.

    Raises:
        RateLimitedError: the client is too fast, or guesses.
        DatabaseUnavailableError: the limits cannot be counted.
    """
    tried = await begin_login(service, caller, address)
    try:
        yield tried
    except failures:
        raise
    except BaseException:
        if tried is not None:
            await _withdraw(service, tried)
        raise


async def _withdraw(service: Service, tried: LoginTry) -> None:
    """Take an attempt back, also on behalf of a client that is gone; a second at most, the answer waits for it."""
    with trio.move_on_after(_WITHDRAWAL, shield=True):
        while True:
            try:
                async with service.pool.connection() as conn:
                    await withdraw_try(conn, tried)
            except DatabaseUnavailableError:
                await trio.sleep(_WITHDRAWAL / 5)
            else:
                return


async def begin_login(service: Service, caller: Caller, address: str) -> LoginTry | None:
    """Count a login attempt against the limits of its client, and against those that failed.

    Args:
        service: where limits are counted.
        caller: whose attempt it is.
        address: as typed; whether it has an account makes no difference.

    Returns:
        The attempt, to be forgiven when it succeeds; None where no limits apply.

    Raises:
        RateLimitedError: the client is too fast, or guesses.
        DatabaseUnavailableError: the limits cannot be counted.
    """
    if not caller.limited:
        return None
    await throttle(service, caller, LOGIN, (LOGIN_ADDRESS, address))
    place = Place(caller.network, caller.client, caller.origin)
    counted: LoginTry | None = None
    # Once it is counted it must be known, or it could not be taken back.
    with trio.CancelScope(shield=True):
        async with service.pool.connection() as conn:
            try:
                counted = await login_attempts.begin_try(conn, service.secrets, address, place)
            except RateLimitedError as error:
                note_refusal(service, caller, error)
                await record(conn, "login_held_back", caller.as_anyone())
                raise
    return counted


def note_refusal(service: Service, caller: Caller, error: RateLimitedError) -> None:
    """Count and log a request that a limit refuses."""
    service.refusal_alarm.note(error.limit, caller.network)
    RATE_LIMITED.labels(error.limit).inc()
    log.info("rate limited", limit=error.limit)
