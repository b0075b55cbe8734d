"""Begin a sign-up with a passkey instead of a password; `sign_up` ends it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from regsvc.accounts.factors.passkey_challenges import LIFE_SECONDS, add_challenge
from regsvc.flows.caller import Caller
from regsvc.flows.factors.passkey_answers import PASSKEY_OPTIONS
from regsvc.flows.rate_limits import throttle
from regsvc.flows.service import Service
from regsvc.flows.signup import policy
from regsvc.schemas.fields import Body, EmailText, NameText, address_of
from regsvc.schemas.passkeys import show_options
from regsvc.security.passkeys.registration import creation_options
from regsvc.security.passkeys.relying_party import get_relying_party


class PasskeyOptionsBody(Body):
    """Who signs up with a passkey: authenticators show both."""

    email: EmailText
    name: NameText


async def begin_passkey(service: Service, caller: Caller, body: PasskeyOptionsBody) -> dict[str, Any]:
    """Return options for the passkey of a sign-up, and store their challenge. The address is not looked up.

    Raises:
        SignupClosedError, InvitationNeededError, DomainNotAllowedError: no such sign-up would be taken.
        RateLimitedError: this client asks too often.
    """
    address = address_of(body.email)
    policy.check_signup_open(service.settings)
    policy.check_domain(service.settings, address)
    await throttle(service, caller, PASSKEY_OPTIONS)
    user_id = uuid4()
    async with service.pool.connection() as conn:
        challenge = await add_challenge(conn, "signup", user_id)
    return show_options(
        creation_options(
            get_relying_party(service.settings),
            challenge,
            user_id=user_id,
            name=address.email,
            display_name=body.name,
            exclude=[],
            life=LIFE_SECONDS,
        )
    )
