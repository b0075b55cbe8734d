"""Sign up."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated
from uuid import UUID, uuid4

import structlog
from psycopg.types.json import Jsonb
from pydantic import ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from regsvc.accounts.factors.passkey_challenges import PasskeyExpiredError
from regsvc.accounts.limits import mail_schedule
from regsvc.accounts.limits.idempotency import (
    CLAIMED_ONCE,
    CLAIMED_REPEAT,
    Once,
    claim_once,
    claim_repeat,
    find_repeat,
    once_values,
    renew_repeat,
    repeat_values,
)
from regsvc.accounts.registrations.registration import (
    FINAL,
    NewRegistration,
    Registration,
    RegistrationNotFoundError,
    add_first,
    add_registration,
    get_registration,
    get_with_turn,
    waits_at,
)
from regsvc.accounts.registrations.signup_passkey import add_signup_passkey
from regsvc.flows.account.new_password import check_new_password
from regsvc.flows.caller import Caller
from regsvc.flows.factors.passkey_answers import verify_created
from regsvc.flows.rate_limits import admit
from regsvc.flows.service import Service
from regsvc.flows.signup import policy
from regsvc.flows.signup.policy import TermsText
from regsvc.logs import mask_email
from regsvc.postgres.connection import Connection
from regsvc.schemas.fields import Body, EmailText, NameText, NewPasswordText, address_of
from regsvc.schemas.passkeys import CreatedPasskey
from regsvc.security.no_password import mint_no_password
from regsvc.security.passkeys.registration import Credential
from regsvc.security.password_tags import password_tags
from regsvc.security.tokens import blind, handle_matches

log = structlog.get_logger()

_LABEL = "signup-repeat"


class RegisterBody(Body):
    """A sign-up with a password, or with a passkey instead. Unknown fields are ignored: older clients send some."""

    model_config = ConfigDict(extra="ignore")

    # Before the password, whose check looks at it. Older programs know a request by a digest without this field.
    passkey: Annotated[CreatedPasskey | None, Field(exclude_if=lambda value: value is None)] = None
    email: EmailText
    password: NewPasswordText | None = Field(default=None, validate_default=True)
    name: NameText
    terms: TermsText = None

    @field_validator("password")
    @classmethod
    def _check_one(cls, password: str | None, info: ValidationInfo) -> str | None:
        if password is None and info.data.get("passkey") is None:
            raise PydanticCustomError("missing", "Field required")
        if password is not None and info.data.get("passkey") is not None:
            raise PydanticCustomError("invalid", "Give a password or a passkey, not both.")
        return password


async def sign_up(
    service: Service, caller: Caller, body: RegisterBody, once: Once | None = None
) -> NewRegistration:
    """Store a sign-up and its mail, durable together, and return it.

    The same sign-up by the same client within ten seconds is one: the id of the first one is returned.

    Args:
        service: what to work with.
        caller: who asks.
        body: of the sign-up.
        once: by what it is known when it comes again: then the first one's id is returned.

    Raises:
        SignupClosedError, InvitationNeededError, DomainNotAllowedError, TermsNeededError: see `policy`.
        IdempotencyKeyReusedError, RequestInFlightError: see `claim_once`.
        ChallengeNeededError: proof of work is due.
        RateLimitedError: this client signs too many people up.
        SignupRefusedError, SignupUnavailableError: see `hook`.
        WeakPasswordError: the policy says no.
        PasskeyInvalidError, PasskeyExpiredError: see `verify_created`.
        OverloadedError: too many passwords wait to be hashed.
        DatabaseUnavailableError: nothing is stored.
    """
    address = address_of(body.email)
    policy.check_signup_open(service.settings)
    policy.check_domain(service.settings, address)
    terms = policy.check_terms(service.settings, body.terms)
    if body.password is not None:
        await check_new_password(service, body.password, email=address.email, name=body.name)
    await admit(service, caller, "register")
    method = "password" if body.passkey is None else "passkey"
    app_data = await service.hook.ask(caller, email=address.email, name=body.name, method=method)
    registration_id = uuid4()
    new = NewRegistration(
        id=registration_id,
        mail_id=uuid4(),
        email=address.email,
        email_key=address.key,
        name=body.name,
        locale=caller.locale,
        password_hash=mint_no_password(),
        origin=caller.origin,
        client=caller.client,
        terms=terms,
        app_data=None if app_data is None else Jsonb(app_data),
    )
    chosen = body.password if body.passkey is None else f"passkey {body.passkey.id}"
    key = blind(service.secrets, _LABEL, caller.network, caller.client, new.email, new.name, chosen or "")
    holder: tuple[UUID, Credential] | None = None
    if body.passkey is not None:
        try:
            holder = await verify_created(service, body.passkey, purpose="signup")
        except PasskeyExpiredError:
            async with service.pool.connection() as conn:
                earlier = await find_repeat(conn, key)
            if earlier is None:
                raise
            return replace(new, id=earlier)
    elif body.password is not None:
        new = replace(
            new,
            password_hash=await service.lane.hash(body.password, owner=caller.line),
            password_tag=password_tags(service.secrets, registration_id, body.password)[0],
        )
    turns = [
        mail_schedule.registration_key(service.secrets, new.id),
        mail_schedule.client_key(service.secrets, new.email_key, new.origin),
    ]
    turns = turns if caller.limited else []
    claimed, values = (
        (CLAIMED_ONCE, once_values(once, new.id))
        if once is not None
        else (CLAIMED_REPEAT, repeat_values(key, new.id))
    )
    stored = False
    if holder is None:
        async with service.pool.connection(alone=True) as conn:
            stored = await add_first(conn, new, claimed=claimed, values=values, turns=turns)
    if not stored:
        async with service.pool.transaction() as conn:
            made = await _claim(conn, new, key, once)
            if made != new.id:
                return replace(new, id=made)
            await add_registration(conn, new)
            if holder is not None:
                await add_signup_passkey(conn, new.id, *holder, caller.client)
            await mail_schedule.take_turns(conn, turns)
    log.info("mail queued", mail=str(new.mail_id), registration=str(new.id), recipient=mask_email(new.email))
    return new


async def _claim(conn: Connection, new: NewRegistration, key: bytes, once: Once | None) -> UUID:
    """Return the id of the sign-up that this request makes after all, or that the same request made before.

    A button that is pressed twice makes one sign-up. Everything in the key comes from this client, so that the answer
    tells nothing of others.

    Args:
        conn: in the transaction that stores the sign-up.
        new: the sign-up, if it is made now.
        key: a MAC of the client and of what it typed.
        once: what the client chose to be known by, which then counts instead.
    """
    if once is not None:
        return await claim_once(conn, once, new.id)
    made = await claim_repeat(conn, key, new.id)
    if made == new.id or await waits_at(conn, made, new.email_key):
        return made
    await renew_repeat(conn, key, new.id)
    return new.id


def check_handle(service: Service, registration_id: str, handle: str) -> UUID:
    """Return the id of a registration that the handle opens.

    Raises:
        RegistrationNotFoundError: it does not, or the id is none. Capitals are read, too (RFC 9562, 4).
    """
    try:
        known = UUID(registration_id)
    except ValueError:
        raise RegistrationNotFoundError from None
    if str(known) != registration_id.lower() or not handle_matches(service.secrets, known, handle):
        raise RegistrationNotFoundError
    return known


async def read_registration(service: Service, registration_id: UUID) -> Registration:
    """Return a registration, whose handle the caller has checked.

    Raises:
        RegistrationNotFoundError: it has been deleted.
    """
    async with service.pool.connection() as conn:
        registration = await get_registration(conn, registration_id)
    if registration is None:
        raise RegistrationNotFoundError
    return registration


async def read_with_turn(service: Service, registration_id: UUID) -> tuple[Registration, datetime | None]:
    """Return the same with when its mail may be asked for again; None: now, or never.

    Raises:
        RegistrationNotFoundError: as `read_registration`.
    """
    schedule = mail_schedule.registration_key(service.secrets, registration_id)
    async with service.pool.connection() as conn:
        found = await get_with_turn(conn, registration_id, schedule)
    if found is None:
        raise RegistrationNotFoundError
    registration, turn = found
    return registration, None if registration.state in FINAL else turn
