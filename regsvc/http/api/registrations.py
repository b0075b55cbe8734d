"""Sign up, and follow the registration."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Literal, NotRequired

import structlog
import trio
from pydantic import Field
from quart import Blueprint, Response, request

from regsvc.accounts.factors.passkey_challenges import PasskeyExpiredError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations.registration import (
    FINAL,
    UNSENT,
    RegistrationNotFoundError,
    State,
)
from regsvc.errors import (
    FieldError,
    OverloadedError,
    ValidationFailedError,
    WeakPasswordError,
)
from regsvc.flows.signup.hook import SignupRefusedError, SignupUnavailableError
from regsvc.flows.signup.passkey import PasskeyOptionsBody, begin_passkey
from regsvc.flows.signup.policy import (
    DomainNotAllowedError,
    InvitationNeededError,
    SignupClosedError,
    TermsNeededError,
)
from regsvc.flows.signup.signup import RegisterBody, check_handle, read_with_turn, sign_up
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented
from regsvc.http.request import idempotency
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.http.turns import end_turn
from regsvc.http.websocket_limits import PER_CLIENT, PER_REGISTRATION, PER_SITE, TooManyWaitingError
from regsvc.schemas.formats import Id, Timestamp, timestamp
from regsvc.schemas.passkeys import CreationShown
from regsvc.schemas.registrations import BounceShown, show_bounce
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.challenge import ChallengeNeededError
from regsvc.security.passkeys.client_data import PasskeyInvalidError
from regsvc.security.tokens import mint_handle
from regsvc.waiting import wait_any

log = structlog.get_logger()
blueprint = Blueprint("registrations", __name__)

HANDLE_HEADER = "Regsvc-Handle"
_DIGITS = 10
MAX_WAIT = 25  # seconds; under the half minute after which most proxies give up


class NewRegistrationShown(TypedDict):
    """The attempt that a sign-up made."""

    id: Id
    handle: str
    state: State
    seq: int


class Registered(TypedDict):
    """The sign-up and its mail are stored together."""

    message: Literal["User registered successfully!"]
    registration: Annotated[
        NotRequired[NewRegistrationShown], Field(description="For `return=representation`.")
    ]


class RegistrationShown(TypedDict):
    """The status of a registration."""

    id: Id
    state: State
    seq: Annotated[int, Field(description="Rises with every change.")]
    attempts: Annotated[int, Field(description="Number of delivery attempts.")]
    next_try_at: Timestamp | None
    reason: Annotated[str | None, Field(description="Why it is `delayed` or `bounced`.")]
    next_resend_at: Timestamp | None
    expires_at: Annotated[
        Timestamp | None, Field(description="The end of link and code, once a mail was accepted.")
    ]
    delivered_at: Annotated[
        Timestamp | None, Field(description="When the mailbox was reported to have the mail.")
    ]
    bounce: Annotated[BounceShown | None, Field(description="Why it is `bounced`.")]


_WHOLE = {"type": "integer", "minimum": 0}
HANDLE = Parameter(HANDLE_HEADER, "The secret that the sign-up answered with.", required=True)
_PREFER = Parameter("Prefer", "`return=representation`: the answer's body has the registration, too.")
_WAIT = Parameter(
    "wait", "Seconds to wait for a change; more than 25 count as 25.", where="query", schema=_WHOLE
)
_SEQ = Parameter(
    "seq",
    "The `seq` that the client knows: a later one is answered at once.",
    where="query",
    schema=_WHOLE,
)


@blueprint.post("/register")
@documented(
    {201: Registered},
    body=RegisterBody,
    parameters=[_PREFER, idempotency.PARAMETER],
    headers={
        "Location": "Path of the registration.",
        HANDLE_HEADER: "The handle: it opens the registration to the client that keeps it.",
    },
    errors=[
        *idempotency.ERRORS,
        SignupClosedError,
        InvitationNeededError,
        DomainNotAllowedError,
        TermsNeededError,
        SignupRefusedError,
        SignupUnavailableError,
        PasskeyInvalidError,
        PasskeyExpiredError,
        WeakPasswordError,
        ChallengeNeededError,
        RateLimitedError,
        OverloadedError,
    ],
)
async def register() -> Response:
    """Sign up. From the 201 on, the registration and its mail are durable together.

    The answer is the same, in the same time, whether or not the address has an account; its owner is told by email.
    Every call is a sign-up of its own with its own password. Only the same address, password and name from the same
    client address and software within ten seconds, without an `Idempotency-Key`, are one sign-up: both calls get the
    same registration. Unknown fields are ignored. The language of the mail follows `Accept-Language`.

    Instead of `password` a sign-up may bring `passkey`, made with the options of `POST
    /api/v1/register/passkey/options`. The bare link never confirms such a sign-up; its handle, its code or an
    assertion of the passkey does.
    """
    context = get_context()
    body = await read_body(RegisterBody)
    once = idempotency.read_once(body)
    made = await idempotency.find_done(once) or (await sign_up(context, get_caller(), body, once)).id
    shown: Registered = {"message": "User registered successfully!"}
    handle = mint_handle(context.secrets, made)
    if _prefers_representation():
        shown["registration"] = {"id": str(made), "handle": handle, "state": "queued", "seq": 1}
    return answer(
        shown,
        201,
        {"Location": f"/api/v1/registrations/{made}", HANDLE_HEADER: handle, "Vary": "Prefer"},
    )


@blueprint.post("/register/passkey/options")
@documented(
    {200: CreationShown},
    body=PasskeyOptionsBody,
    errors=[SignupClosedError, InvitationNeededError, DomainNotAllowedError, RateLimitedError],
)
async def offer_passkey() -> Response:
    """Get the options for the passkey of a sign-up. They are valid for ten minutes, once.

    Hand `publicKey` to `PublicKeyCredential.parseCreationOptionsFromJSON()` and the result to
    `navigator.credentials.create()`; `toJSON()` of what it returns is the `passkey` of the sign-up.
    """
    body = await read_body(PasskeyOptionsBody)
    return answer(await begin_passkey(get_context(), get_caller(), body))


@blueprint.get("/registrations/<registration_id>")
@documented(
    {200: RegistrationShown},
    parameters=[HANDLE, _WAIT, _SEQ],
    errors=[
        ValidationFailedError,
        RegistrationNotFoundError,
        TooManyWaitingError,
    ],
)
async def show(registration_id: str) -> Response:
    """Show a registration to the holder of its handle; `?wait=S` waits for a change first.

    With `&seq=N` the wait ends at once when the registration is past `N` already, so that no change falls between two
    calls.
    """
    context = get_context()
    known = check_handle(context, registration_id, request.headers.get(HANDLE_HEADER, ""))
    wait = _read_number("wait", 0, MAX_WAIT)
    seen = _read_number("seq", None, 2**31 - 1)
    with ExitStack() as places, context.hub.waiting(known) as waiter:
        if wait and get_caller().limited:
            places.enter_context(context.sockets.counted(get_caller().network, PER_CLIENT))
            if get_caller().wide_network:
                places.enter_context(context.sockets.counted(get_caller().wide_network, PER_SITE))
            places.enter_context(context.sockets.counted(known, PER_REGISTRATION))
        registration, next_resend = await read_with_turn(context, known)
        if not wait and request.method == "GET" and registration.state in UNSENT:
            context.hub.glance(known)
        if wait:
            end_turn()
        if wait and seen is None:
            seen = registration.seq
        with trio.move_on_after(wait or 0) as waiting:
            while wait and registration.seq <= (seen or 0) and registration.state not in FINAL:
                waiter.seen = registration.seq
                waiter.sent = registration.state not in UNSENT
                await wait_any(waiter.wait_change, context.stopping.wait)
                registration, next_resend = await read_with_turn(context, known)
                if context.stopping.is_set():
                    break
        if wait and waiting.cancelled_caught:
            # A change may have come unheard, or while it was being read.
            registration, next_resend = await read_with_turn(context, known)
    shown: RegistrationShown = {
        "id": str(registration.id),
        "state": registration.state,
        "seq": registration.seq,
        "attempts": registration.attempts,
        "next_try_at": timestamp(registration.next_try_at),
        "reason": registration.reason,
        "next_resend_at": timestamp(next_resend),
        "expires_at": timestamp(registration.expires_at),
        "delivered_at": timestamp(registration.delivered_at),
        "bounce": show_bounce(registration),
    }
    return answer(shown)


def _prefers_representation() -> bool:
    """Return whether the client asked for the registration in the answer (RFC 7240 section 4.2)."""
    wishes = ",".join(request.headers.getlist("Prefer")).split(",")
    return any(wish.strip().lower() == "return=representation" for wish in wishes)


def _read_number(name: str, default: int | None, most: int) -> int | None:
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise ValidationFailedError(
            f"`{name}` has to be a whole number.",
            fields=[FieldError(f"?{name}", "invalid", "not a whole number")],
        )
    return min(int(text), most)
