"""How often a client may call what costs something: the limits of the API, and the headers that tell of them.

What a mail costs its receiver is another matter: that is the mail schedule (`regsvc.accounts.schedule`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import structlog
from quart import Response, g

from regsvc.accounts.audit.record import record
from regsvc.accounts.limits import login_attempts
from regsvc.accounts.limits.login_attempts import LoginTry
from regsvc.accounts.limits.rate_limit import Limit, RateLimitedError, Standing, demand, take_permits
from regsvc.http.context import get_context
from regsvc.http.request.actor import by_anyone
from regsvc.http.request.client import get_client_network, get_origin, limits_apply
from regsvc.metrics import RATE_LIMITED

log = structlog.get_logger()

_MINUTE = 60
_DAY = 24 * 60 * _MINUTE

LOGIN = Limit("login", 20, _MINUTE)
LOGIN_ADDRESS = Limit("login-address", 5, _MINUTE)
REGISTER = Limit("register", 20, _MINUTE)
REGISTER_DAY = Limit("register-day", 300, _DAY)
CONFIRM = Limit("confirm", 30, 5 * _MINUTE)
SIGNUP_CHECK = Limit("signup-check", 120, _MINUTE)
MAIL_REQUEST = Limit("mail-request", 30, 5 * _MINUTE)


async def throttle(*limits: Limit | tuple[Limit, str]) -> None:
    """Count the current request against limits of its client, before it costs anything.

    A request that fails afterwards counts, too. A client is an IPv4 address, or a /64 of IPv6.

    Args:
        limits: all of them count it, or none does. One that comes with a text, such as the address that was typed,
            is of the client and that text together.

    Raises:
        RateLimitedError: one of them has nothing left.
        DatabaseUnavailableError: nobody can tell.
    """
    if not limits_apply():
        return
    context, network = get_context(), get_client_network()
    demands = [
        demand(context.secrets, limit, network, *whom)
        for limit, *whom in (it if isinstance(it, tuple) else (it,) for it in limits)
    ]
    try:
        async with context.pool.connection() as conn:
            g.standings = await take_permits(conn, demands)
    except RateLimitedError as error:
        g.standings = error.standings
        _note_refusal(error)
        raise


async def begin_login(address: str) -> LoginTry | None:
    """Count a try to log in against the limits of its client, and against those that failed; None: nobody counts.

    Args:
        address: as typed; whether it has an account makes no difference.

    Raises:
        RateLimitedError: the client is too fast, or guesses.
        DatabaseUnavailableError: nobody can tell.
    """
    if not limits_apply():
        return None
    await throttle(LOGIN, (LOGIN_ADDRESS, address))
    context = get_context()
    async with context.pool.connection() as conn:
        try:
            return await login_attempts.begin_try(conn, context.secrets, address, get_origin())
        except RateLimitedError as error:
            _note_refusal(error)
            await record(conn, "login_held_back", by_anyone())
            raise


def _note_refusal(error: RateLimitedError) -> None:
    RATE_LIMITED.labels(error.limit).inc()
    log.info("rate limited", limit=error.limit)


def add_limit_headers(response: Response) -> None:
    """Tell a client how it stands with the limits that its request was counted against.

    The fields are those of draft-ietf-httpapi-ratelimit-headers: quota and window of each, what remains, and the
    seconds until all of it is there again.
    """
    standings: Sequence[Standing] = g.get("standings", ())
    if standings:
        response.headers["RateLimit-Policy"] = ", ".join(
            f'"{it.limit.name}";q={it.limit.quota};w={it.limit.seconds}' for it in standings
        )
        response.headers["RateLimit"] = ", ".join(
            f'"{it.limit.name}";r={it.remaining};t={math.ceil(it.reset)}' for it in standings
        )
