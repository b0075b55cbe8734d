"""Check one factor of a user: a code of the authenticator app, a recovery code, or a passkey's assertion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Self, TypeVar
from uuid import UUID

import structlog
from pydantic import Field, StringConstraints, model_validator

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.factors.guesses import DAILY, begin_guess, withdraw_guess
from regsvc.accounts.factors.methods import FactorInvalidError
from regsvc.accounts.factors.passkey_challenges import Purpose
from regsvc.accounts.factors.passkeys import PasskeyUnconfirmedError, PasskeyUnknownError, use_passkey
from regsvc.accounts.factors.recovery_codes import FEW, count_recovery_codes, take_recovery_code
from regsvc.accounts.factors.totp import take_totp
from regsvc.accounts.limits.login_attempts import is_known
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations.confirmation_code import read_code
from regsvc.accounts.users.notices import add_change_notice
from regsvc.accounts.users.user import Credentials, lock_user
from regsvc.errors import InvalidCredentialsError
from regsvc.flows.caller import Caller
from regsvc.flows.factors.passkey_answers import Answered, verify_answer
from regsvc.flows.rate_limits import note_refusal
from regsvc.flows.service import Service
from regsvc.metrics import FACTORS
from regsvc.postgres.connection import Connection
from regsvc.schemas.fields import Body
from regsvc.schemas.passkeys import AssertedPasskey
from regsvc.security.passkeys.client_data import PasskeyInvalidError

log = structlog.get_logger()
Result = TypeVar("Result")

FactorText = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_ONE = "Give exactly one of them."


class FactorBody(Body):
    """One factor that its user has at hand."""

    code: Annotated[
        FactorText | None, Field(description="Six digits of the authenticator app.", examples=["287082"])
    ] = None
    assertion: Annotated[
        AssertedPasskey | None, Field(description="The answer of one of the user's passkeys.")
    ] = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if sum(getattr(self, name) is not None for name in type(self).model_fields if name in GIVEN) != 1:
            raise ValueError(_ONE)
        return self


class AnyFactorBody(FactorBody):
    """One factor, or a recovery code in its place."""

    recovery_code: Annotated[
        FactorText | None, Field(description="One of the recovery codes.", examples=["4F7QK-92MZT"])
    ] = None


GIVEN = ("password", "code", "recovery_code", "assertion")


async def check_factor(
    service: Service,
    caller: Caller,
    credentials: Credentials,
    given: FactorBody,
    succeed: Callable[[Connection, list[str]], Awaitable[Result]],
    *,
    by: By,
    purpose: Purpose = "login",
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
        purpose: of the challenge that a passkey answers.
        before: counts the guess elsewhere, too; outside of the transaction, so that it counts whatever follows.

    Raises:
        FactorInvalidError: it is wrong or was already used.
        PasskeyExpiredError: the challenge of the passkey is used up, or too old.
        RateLimitedError: too many factors of this account were wrong.
    """
    user_id = credentials.user_id
    if not _is_well_formed(given):  # a slip of the finger is no guess
        raise FactorInvalidError
    answered = None
    if given.assertion is not None:  # a signature cannot be guessed: it counts nowhere
        answered = await _verify(service, caller, user_id, given.assertion, purpose=purpose, by=by)
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
            taken = (
                await _take(conn, service, user_id, given, by)
                if answered is None
                else await _use(conn, answered, by)
            )
            result = await succeed(conn, taken)
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


async def _verify(
    service: Service, caller: Caller, user_id: UUID, body: AssertedPasskey, *, purpose: Purpose, by: By
) -> Answered:
    """Verify the answer of a user's passkey, outside of any transaction.

    Raises:
        FactorInvalidError: it is not valid, or of another user's passkey.
        PasskeyExpiredError: its challenge is used up, or too old.
    """
    try:
        return await verify_answer(service, caller, body, purpose=purpose, user_id=user_id)
    except (PasskeyInvalidError, PasskeyUnknownError, PasskeyUnconfirmedError, InvalidCredentialsError):
        FACTORS.labels("assertion", "wrong").inc()
        async with service.pool.connection() as conn:
            await record(conn, "second_factor_failed", by, user_id=user_id, method="assertion")
        log.info("second factor wrong", user=str(user_id), method="assertion")
        raise FactorInvalidError from None


async def _use(conn: Connection, answered: Answered, by: By) -> list[str]:
    """Record the use of a passkey, and return what it proves beside the first factor (RFC 8176).

    Raises:
        FactorInvalidError: it has been removed meanwhile.
    """
    try:
        await use_passkey(conn, answered.key.id, answered.proof, by)
    except PasskeyUnknownError:
        raise FactorInvalidError from None
    return [each for each in answered.methods if each != "mfa"]


async def _take(conn: Connection, service: Service, user_id: UUID, given: FactorBody, by: By) -> list[str]:
    """Take the factor that was given, and return what it proves (RFC 8176).

    Raises:
        FactorInvalidError: it is wrong or was already used.
    """
    recovery_code = given.recovery_code if isinstance(given, AnyFactorBody) else None
    if given.code is not None:
        if await take_totp(conn, service.secrets, user_id, read_code(given.code) or ""):
            return ["otp"]
    elif recovery_code is not None and await take_recovery_code(
        conn, service.secrets, user_id, recovery_code
    ):
        left = await count_recovery_codes(conn, user_id)
        await record(conn, "recovery_code_used", by, user_id=user_id, left=left)
        few = left <= FEW
        await add_change_notice(conn, user_id, "recovery_codes_few" if few else "recovery_code_used", by)
        return ["otp"]
    raise FactorInvalidError
