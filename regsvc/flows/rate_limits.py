"""Rate limits of clients and users.

What a mail costs its receiver is another matter: that is the mail schedule (`regsvc.accounts.limits.mail_schedule`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from uuid import UUID

import structlog
import trio

from regsvc.accounts.audit.record import record
from regsvc.accounts.limits import login_opening
from regsvc.accounts.limits.login_attempts import LoginTry, Place, withdraw_try
from regsvc.accounts.limits.login_opening import OpenedLogin, open_login
from regsvc.accounts.limits.rate_limit import Demand, Limit, RateLimitedError, demand, take_permits
from regsvc.accounts.users.user import find_credentials
from regsvc.errors import DatabaseUnavailableError, RegsvcError
from regsvc.flows.caller import Caller
from regsvc.flows.challenge import Purpose, is_needed, require_after, require_solution
from regsvc.flows.service import Service
from regsvc.metrics import RATE_LIMITED
from regsvc.security.challenge import ChallengeNeededError, mint_challenge
from regsvc.security.signing.access_token import AccessToken

log = structlog.get_logger()

Asked: TypeAlias = Limit | tuple[Limit, str]

_MINUTE = 60
_DAY = 24 * 60 * _MINUTE
_WITHDRAWAL = 1.0  # seconds

LOGIN = Limit("login", 20, _MINUTE)
LOGIN_ADDRESS = Limit("login-address", 5, _MINUTE)
SECOND_FACTOR = Limit("second-factor", 20, _MINUTE)
REGISTER = Limit("register", 20, _MINUTE)
REGISTER_DAY = Limit("register-day", 300, _DAY)
CONFIRM = Limit("confirm", 30, 5 * _MINUTE)
POLICY_REPORTS = Limit("policy-reports", 20, _MINUTE)
SIGNUP_CHECK = Limit("signup-check", 120, _MINUTE)
WIDE = 8  # clients' worth of each limit for a /48
MAIL_REQUEST = Limit("mail-request", 30, 5 * _MINUTE)
# Of a user, from wherever they come: what is written for them is kept, some of it for more than a year.
INVITE = Limit("invite", 100, 60 * _MINUTE)
ACCOUNT = Limit("account", 60, 60 * _MINUTE)
EXPORT = Limit("export", 5, 60 * _MINUTE)


def widen(limit: Limit) -> Limit:
    """Return the limit of a whole /48 of IPv6: as many as several clients have, and not as 65,536."""
    return Limit(f"{limit.name}-48", limit.quota * WIDE, limit.seconds)


# Calls that mail or hash, and what counts them.
GUARDED: Mapping[Purpose, tuple[Limit, ...]] = {
    "register": (REGISTER, REGISTER_DAY),
    "correct": (REGISTER, REGISTER_DAY),
    "resend": (MAIL_REQUEST,),
    "forgot": (MAIL_REQUEST,),
    "login-code": (MAIL_REQUEST,),
    "login": (LOGIN, LOGIN_ADDRESS),
    "password": (LOGIN, LOGIN_ADDRESS),
    "confirm": (CONFIRM,),
    "accept": (CONFIRM,),
    "reset": (CONFIRM,),
    "undo": (CONFIRM,),
}


async def admit(service: Service, caller: Caller, purpose: Purpose, address: str | None = None) -> None:
    """Admit a call that mails or hashes: ask for proof of work where it is due, and count the call.

    Args:
        service: where limits are counted.
        caller: whose request it is.
        purpose: of the call.
        address: as typed, where a limit is of client and address.

    Raises:
        ChallengeNeededError: a solution is needed.
        RateLimitedError: the client is too fast.
        DatabaseUnavailableError: the limits cannot be counted.
    """
    await throttle(service, caller, *_list_limits(purpose, address), purpose=purpose)


async def offer_challenge(
    service: Service, caller: Caller, purpose: Purpose, address: str | None
) -> dict[str, Any] | None:
    """Return a challenge if a call would need one now; as `admit`, without counting the call."""
    demands = _list_demands(service, caller, _list_limits(purpose, address)) if caller.limited else []
    return mint_challenge(service.secrets, purpose) if await is_needed(service, demands) else None


def _list_limits(purpose: Purpose, address: str | None) -> list[Asked]:
    by_client: list[Asked] = [limit for limit in GUARDED[purpose] if limit is not LOGIN_ADDRESS]
    if LOGIN_ADDRESS in GUARDED[purpose] and address is not None:
        by_client.append((LOGIN_ADDRESS, address))
    return by_client


async def throttle(service: Service, caller: Caller, *limits: Asked, purpose: Purpose | None = None) -> None:
    """Count a request against limits of its client, before it costs anything.

    A request that fails afterwards counts, too. Calls that mail or hash are for `admit`.

    Args:
        service: where limits are counted.
        caller: whose request it is; its standings are filled in.
        limits: all of them count it, or none does. One that comes with a text, such as the address that was typed,
            is of the client and that text together.
        purpose: of a call that mails or hashes, for which proof of work may be due.

    Raises:
        ChallengeNeededError: a solution is needed.
        RateLimitedError: one of them has nothing left.
        DatabaseUnavailableError: the limits cannot be counted.
    """
    demands = _list_demands(service, caller, limits) if caller.limited else []
    await _take(service, caller, demands, shown=len(limits), purpose=purpose)


def _list_demands(service: Service, caller: Caller, limits: Sequence[Asked]) -> list[Demand]:
    asked = [it if isinstance(it, tuple) else (it,) for it in limits]
    demands = [demand(service.secrets, limit, caller.network, *whom) for limit, *whom in asked]
    if caller.wide_network:
        demands += [
            demand(service.secrets, widen(limit), caller.wide_network, *whom) for limit, *whom in asked
        ]
    return demands


async def throttle_user(
    service: Service, caller: Caller, token: AccessToken, limit: Limit, *, purpose: Purpose | None = None
) -> None:
    """Count a request against a limit of the token's user, before it writes anything.

    Args:
        service: where limits are counted.
        caller: whose request it is; its standings are filled in.
        token: of the user.
        limit: what counts it.
        purpose: of a call that mails or hashes, for which proof of work may be due.

    Raises:
        ChallengeNeededError: a solution is needed.
        RateLimitedError: it has nothing left.
        DatabaseUnavailableError: the limit cannot be counted.
    """
    await throttle_actor(service, caller, token.user_id, limit, purpose=purpose)


async def throttle_actor(
    service: Service, caller: Caller, actor_id: UUID, limit: Limit, *, purpose: Purpose | None = None
) -> None:
    """Count a request against a limit of a user or another service, by its id; as `throttle_user`."""
    demands = [demand(service.secrets, limit, str(actor_id))] if caller.limited else []
    await _take(service, caller, demands, shown=1, purpose=purpose)


async def _take(
    service: Service, caller: Caller, demands: Sequence[Demand], *, shown: int, purpose: Purpose | None
) -> None:
    async with _admitting(service, caller, demands, shown=shown, purpose=purpose):
        if not demands:
            return
        async with service.pool.connection() as conn:
            standings = await take_permits(conn, demands)
        caller.standings = standings[:shown]
        if purpose is not None:
            require_after(service, caller, purpose, standings)


@asynccontextmanager
async def _admitting(
    service: Service, caller: Caller, demands: Sequence[Demand], *, shown: int, purpose: Purpose | None
) -> AsyncIterator[None]:
    """Ask for proof of work where it is due, before the block counts a call, and note a refusal."""
    try:
        service.refused.check(demands)
        if purpose is not None:
            await require_solution(service, caller, purpose, demands)
        yield
    except RateLimitedError as error:
        caller.standings = error.standings[:shown]
        if len(error.standings) == len(demands):
            service.refused.note(demands, error.standings)
        note_refusal(service, caller, error)
        raise


@asynccontextmanager
async def login_attempt(
    service: Service,
    caller: Caller,
    address: str,
    *failures: type[RegsvcError],
    purpose: Purpose = "password",
) -> AsyncIterator[OpenedLogin]:
    """Count a login attempt, and take it back when the block ends before the password was found right or wrong.

    A client that hung up, a database that failed or a full hashing line are no wrong guesses.

    Args:
        service: where limits are counted.
        caller: whose attempt it is.
        address: as typed; whether it has an account makes no difference.
        failures: what the block raises when the password is wrong; the attempt stays counted then.
        purpose: of the call: `password` where a user who is logged in gives the password once more.

    Yields:
        The attempt, for the block to forgive when it succeeds, and the credentials of the account at the address.

    Raises:
        ChallengeNeededError: a solution is needed.
        RateLimitedError: the client is too fast, or guesses.
        DatabaseUnavailableError: the limits cannot be counted.
    """
    opened = await _open(service, caller, address, purpose)
    try:
        yield opened
    except failures:
        raise
    except BaseException:
        if opened.tried is not None:
            await _withdraw(service, opened.tried)
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


async def _open(service: Service, caller: Caller, address: str, purpose: Purpose) -> OpenedLogin:
    """Count a login attempt against the limits of its client, and against those that failed; as `login_attempt`."""
    limits = _list_limits(purpose, address)
    demands = _list_demands(service, caller, limits) if caller.limited else []
    async with _admitting(service, caller, demands, shown=len(limits), purpose=purpose):
        if not caller.limited:
            async with service.pool.connection() as conn:
                return OpenedLogin(None, await find_credentials(conn, address))
        place = Place(caller.network, caller.client, caller.origin)
        # Once it is counted it must be known, or it could not be taken back.
        with trio.CancelScope(shield=True):
            async with service.pool.connection() as conn:
                try:
                    opened = await open_login(conn, service.secrets, demands, address, place)
                except RateLimitedError as error:
                    if error.limit == login_opening.LIMIT:
                        await record(conn, "login_held_back", caller.as_anyone())
                    raise
            caller.standings = opened.standings[: len(limits)]
            try:
                require_after(service, caller, purpose, opened.standings)
            except ChallengeNeededError:
                if opened.tried is not None:
                    await _withdraw(service, opened.tried)
                raise
    return opened


def note_refusal(service: Service, caller: Caller, error: RateLimitedError) -> None:
    """Count and log a request that a limit refuses."""
    service.refusal_alarm.note(error.limit, caller.network)
    RATE_LIMITED.labels(error.limit).inc()
    log.info("rate limited", limit=error.limit)
