"""Check one factor of a user: a code of the authenticator app, a recovery code, or a passkey's assertion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Self, TypeVar
from uuid import UUID

import structlog
from pydantic import Field, StringConstraints, model_validator

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.factors.guesses import DAILY, begin_guess, withdraw_guess
from regsvc.accounts.factors.methods import FactorInvalidError
from regsvc.accounts.factors.recovery_codes import FEW, count_recovery_codes, take_recovery_code
from regsvc.accounts.factors.totp import take_totp
from regsvc.accounts.limits.login_attempts import is_known
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations.confirmation_code import read_code
from regsvc.accounts.users.notices import add_change_notice
from regsvc.accounts.users.user import Credentials, lock_user
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import note_refusal
from regsvc.flows.service import Service
from regsvc.metrics import FACTORS
from regsvc.postgres.connection import Connection
from regsvc.schemas.fields import Body

log = structlog.get_logger()
Result = TypeVar("Result")

FactorText = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Assertion = Annotated[
    dict[str, Any], Field(description="What `navigator.credentials.get` gave, as JSON (WebAuthn level 3).")
]
_ONE = "Give exactly one of them."


class FactorBody(Body):
    """One factor."""

    code: Annotated[
        FactorText | None, Field(description="Six digits of the authenticator app.", examples=["287082"])
    ] = None
    recovery_code: Annotated[
        FactorText | None, Field(description="One of the recovery codes.", examples=["4F7QK-92MZT"])
    ] = None
    assertion: Assertion | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if sum(getattr(self, name) is not None for name in type(self).model_fields if name in GIVEN) != 1:
            raise ValueError(_ONE)
        return self


GIVEN = ("password", "code", "recovery_code", "assertion")


async def check_factor(
    service: Service,
    caller: Caller,
    credentials: Credentials,
    given: FactorBody,
    succeed: Callable[[Connection, list[str]], Awaitable[Result]],
    *,
    by: By,
    before: Callable[[Connection], Awaitable[None]] | None = None,
) -> Result:
    """Take a factor once, and do what it allows in the same transaction.

    Args:
        service: what to work with.
        caller: who asks.
        credentials: of the user whose factor it is.
        given: the factor.
        succeed: what follows in the transaction, given what was proved (RFC 8176).
        by: the audit actor.
        before: counts the guess elsewhere, too; outside of the transaction, so that it counts whatever follows.

    Raises:
        FactorInvalidError: it is wrong or was already used.
        RateLimitedError: too many factors of this account were wrong.
    """
    user_id = credentials.user_id
    if not _is_well_formed(given):  # a slip of the finger is no guess
        raise FactorInvalidError
    async with service.pool.connection() as conn:
        known = not caller.limited or await is_known(
            conn, service.secrets, credentials.email_key, caller.origin
        )
        try:
            guess = await begin_guess(conn, user_id, known=known, guessable=given.code is not None)
        except RateLimitedError as error:
            note_refusal(service, caller, error)
            raise
        if before is not None:
            await before(conn)
    method = next(name for name in GIVEN if getattr(given, name, None) is not None)
    try:
        async with service.pool.transaction() as conn:
            # The usual lock order: the user before what belongs to it.
            await lock_user(conn, user_id)
            result = await succeed(conn, await _take(conn, service, user_id, given, by))
            await withdraw_guess(conn, guess)
    except FactorInvalidError:
        FACTORS.labels(method, "wrong").inc()
        async with service.pool.transaction() as conn:
            await record(conn, "second_factor_failed", by, user_id=user_id, method=method)
            if guess.number == DAILY:
                await record(conn, "second_factor_stopped", by, user_id=user_id)
                await add_change_notice(conn, user_id, "factors_guessed", by)
        log.info("second factor wrong", user=str(user_id), method=method)
        if guess.number == DAILY:
            log.warning("codes stopped", user=str(user_id), guesses=guess.number)
        raise
    FACTORS.labels(method, "right").inc()
    return result


def _is_well_formed(given: FactorBody) -> bool:
    return given.code is None or read_code(given.code) is not None


async def _take(conn: Connection, service: Service, user_id: UUID, given: FactorBody, by: By) -> list[str]:
    """Take the factor that was given, and return what it proves (RFC 8176).

    Raises:
        FactorInvalidError: it is wrong or was already used.
    """
    if given.code is not None:
        if await take_totp(conn, service.secrets, user_id, read_code(given.code) or ""):
            return ["otp"]
    elif given.recovery_code is not None and await take_recovery_code(
        conn, service.secrets, user_id, given.recovery_code
    ):
        left = await count_recovery_codes(conn, user_id)
        await record(conn, "recovery_code_used", by, user_id=user_id, left=left)
        few = left <= FEW
        await add_change_notice(conn, user_id, "recovery_codes_few" if few else "recovery_code_used", by)
        return ["otp"]
    raise FactorInvalidError
