"""Request the confirmation mail again, or at another address.

Nothing here looks up whether an attempt waits for the mail. The request is stored, and decided when its mail is
claimed. What is shown, the time of the next request, depends only on what this client typed before.
"""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import StringConstraints
from quart import Blueprint, Response, request

from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations import registration
from regsvc.flows.signup.policy import DomainNotAllowedError
from regsvc.flows.signup.resend import AddressBody, ask_again, correct_address
from regsvc.flows.signup.signup import check_handle
from regsvc.http.api.registrations import HANDLE, HANDLE_HEADER
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented
from regsvc.http.request import idempotency
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.fields import Body, EmailText, address_of
from regsvc.schemas.formats import Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.challenge import ChallengeNeededError

log = structlog.get_logger()
blueprint = Blueprint("resending", __name__)


class ResendBody(Body):
    """The address; with the registration (and its handle) it is that attempt's mail that comes again."""

    email: EmailText
    registration: Annotated[str, StringConstraints(max_length=64)] | None = None


class Resent(TypedDict):
    """A mail is on its way if a sign-up waits for this address."""

    message: str
    next_resend_at: Timestamp | None


_HANDLE = Parameter(HANDLE_HEADER, "The handle of the sign-up, if `registration` is given.")


@blueprint.post("/confirm-email/resend")
@documented(
    {202: Resent},
    body=ResendBody,
    parameters=[_HANDLE, idempotency.PARAMETER],
    errors=[
        *idempotency.ERRORS,
        registration.RegistrationNotFoundError,
        ChallengeNeededError,
        RateLimitedError,
        TooSoonError,
    ],
)
async def resend() -> Response:
    """Request the confirmation mail once more. The answer is the same whether or not an attempt waits for it.

    `registration` and the header `Regsvc-Handle` choose one of several sign-ups of the address. The mail schedule
    counts for the address as this client types it, or for this registration; it says nothing about other clients.
    """
    context = get_context()
    body = await read_body(ResendBody)
    wanted = None
    if body.registration is not None:
        wanted = check_handle(context, body.registration, request.headers.get(HANDLE_HEADER, ""))
    again_at = await ask_again(
        context, get_caller(), address_of(body.email), wanted, idempotency.read_once(body)
    )
    shown: Resent = {
        "message": "If a sign-up waits for this address, its mail is on the way.",
        "next_resend_at": timestamp(again_at),
    }
    return answer(shown, 202)


@blueprint.patch("/registrations/<registration_id>")
@documented(
    {202: Resent},
    body=AddressBody,
    parameters=[HANDLE],
    errors=[
        DomainNotAllowedError,
        registration.RegistrationNotFoundError,
        registration.RegistrationOverError,
        ChallengeNeededError,
        RateLimitedError,
        TooSoonError,
    ],
)
async def change_address(registration_id: str) -> Response:
    """Send the mail of a registration to another address, to correct a typo before it is confirmed.

    The old mail is cancelled, and its link and code are dead. The answer does not tell whether the new address has an
    account.
    """
    context = get_context()
    known = check_handle(context, registration_id, request.headers.get(HANDLE_HEADER, ""))
    body = await read_body(AddressBody)
    shown: Resent = {
        "message": "The mail goes to the new address.",
        "next_resend_at": timestamp(
            await correct_address(context, get_caller(), known, address_of(body.email))
        ),
    }
    return answer(shown, 202)
