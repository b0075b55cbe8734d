"""Log in with a code that is mailed.

Nothing here looks up whether the address has an account before a code comes. The request is stored, and decided when
its mail is claimed: the owner of an account gets a code, and another reader of the address learns that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import structlog

from regsvc.accounts.address import Address
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.idempotency import Once, claim_once
from regsvc.accounts.limits.login_attempts import Place, uncounted_try
from regsvc.accounts.registrations import login_code
from regsvc.accounts.registrations.confirmation import TokenExpiredError
from regsvc.accounts.registrations.confirmation_code import CodeInvalidError, read_code
from regsvc.accounts.registrations.login_code import LoginCodeTriesExhaustedError, NewLogin
from regsvc.accounts.sessions.refresh_token import CredentialsChangedError, Grant
from regsvc.accounts.users import user
from regsvc.flows.caller import Caller
from regsvc.flows.login.completion import complete_login
from regsvc.flows.rate_limits import CONFIRM, admit, throttle
from regsvc.flows.service import Service
from regsvc.flows.signup.resend import take_turn
from regsvc.logs import mask_email

log = structlog.get_logger()

METHOD = "otp"  # RFC 8176


@dataclass(frozen=True)
class AskedCode:
    """An attempt to log in, and when its next code may be requested."""

    id: UUID
    next_resend_at: datetime | None


async def ask_for_code(
    service: Service, caller: Caller, address: Address, known: UUID | None = None, once: Once | None = None
) -> AskedCode:
    """Queue the mail with a code, durable together with the attempt that its handle opens.

    Args:
        service: what to work with.
        caller: who asks.
        address: where it goes.
        known: an earlier attempt whose code is requested again; the caller has checked its handle.
        once: by what the request is known when it comes again: one mail is booked for both.

    Raises:
        IdempotencyKeyReusedError, RequestInFlightError: see `claim_once`.
        ChallengeNeededError: proof of work is due.
        RateLimitedError: this client asks for too many.
        TooSoonError: the schedule says no.
        RegistrationOverError: the earlier attempt is over, or of another address.
    """
    await admit(service, caller, "login-code")
    login_id = known or uuid4()
    turn = mail_schedule.login_client_key(service.secrets, address.key, caller.origin)
    new = NewLogin(
        id=login_id,
        mail_id=uuid4(),
        email=address.email,
        email_key=address.key,
        locale=caller.locale,
        origin=caller.origin,
        client=caller.client,
        own_turn=mail_schedule.registration_key(service.secrets, login_id),
        turn=turn,
    )
    async with service.pool.transaction() as conn:
        made = await claim_once(conn, once, login_id)
        if made == login_id:
            await take_turn(conn, caller, turn)
            await (login_code.add_login if known is None else login_code.mail_again)(conn, new)
        turns = await mail_schedule.next_turns(conn, [turn])
    log.info("login code asked for", mail=str(new.mail_id), recipient=mask_email(address.email))
    return AskedCode(made, turns.get(turn))


async def log_in_by_code(service: Service, caller: Caller, known: UUID, code: str) -> Grant:
    """Start a session with the code of an attempt, once.

    Args:
        service: what to work with.
        caller: who typed the code.
        known: the attempt, whose handle has been checked: a code works where it was requested.
        code: as typed or pasted.

    Raises:
        RateLimitedError: this client tries too much.
        CodeInvalidError: it is wrong, or has not six digits, which costs no attempt.
        LoginCodeTriesExhaustedError: this code, or this attempt, was tried too often.
        TokenExpiredError: the attempt is over, or its code was used.
        SecondFactorRequiredError: the code is right, and the second factor is missing.
    """
    await throttle(service, caller, CONFIRM)
    digits = read_code(code)
    if digits is None:
        raise CodeInvalidError  # a slip, not a guess
    async with service.pool.transaction() as conn:
        outcome, user_id = await login_code.try_code(conn, service.secrets, known, digits, caller.as_anyone())
    match outcome:
        case "wrong":
            raise CodeInvalidError
        case "exhausted":
            raise LoginCodeTriesExhaustedError
        case "expired":
            raise TokenExpiredError
    assert user_id is not None  # noqa: S101 - a right code has an account
    started = await _complete(service, caller, user_id)
    log.info("logged in", user=str(started.user_id), session=str(started.session_id))
    return started


async def _complete(service: Service, caller: Caller, user_id: UUID) -> Grant:
    async with service.pool.connection() as conn:
        credentials = await user.get_credentials(conn, user_id)
    if credentials is None:
        raise TokenExpiredError
    tried = None
    if caller.limited:
        place = Place(caller.network, caller.client, caller.origin)
        tried = uncounted_try(service.secrets, credentials.email_key, place, datetime.now(UTC))
    try:
        return await complete_login(service, caller, credentials, amr=[METHOD], tried=tried)
    except CredentialsChangedError:
        raise TokenExpiredError from None
