"""Confirm an address by the link or the code of its mail, or report that the sign-up was not yours.

GET and HEAD change nothing here: programs that look at every link in a mail before its reader does cannot spend
one. Only a POST does, which the page behind the link sends when a person presses its button.
"""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import Field, StringConstraints
from quart import Blueprint, Response, request

from regsvc.accounts.factors.passkey_challenges import PasskeyExpiredError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations import confirmation, link_preview
from regsvc.accounts.registrations.confirmation_code import CodeInvalidError, CodeTriesExhaustedError
from regsvc.accounts.registrations.registration import RegistrationNotFoundError
from regsvc.errors import OverloadedError
from regsvc.flows.signup import confirmation as flow
from regsvc.flows.signup.confirmation import ConfirmBody
from regsvc.flows.signup.signup import check_handle
from regsvc.http.api.registrations import HANDLE, HANDLE_HEADER
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer, empty
from regsvc.logs import mask_email
from regsvc.schemas.fields import Body, TokenText
from regsvc.schemas.formats import Message, Nothing, Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.challenge import ChallengeNeededError
from regsvc.security.passkeys.client_data import PasskeyInvalidError
from regsvc.security.tokens import read_link_token

log = structlog.get_logger()
blueprint = Blueprint("confirmation", __name__)

_CONFIRMED: Message = {"message": "email confirmed"}
_VOIDED: Message = {"message": "registration voided"}


class CodeBody(Body):
    """The registration and the six digits from its mail, as they were typed or pasted."""

    registration: Annotated[str, StringConstraints(max_length=64)]
    code: Annotated[str, StringConstraints(max_length=64)]


class PreviewBody(Body):
    """The link's token."""

    token: TokenText


class RepudiateBody(Body):
    """The token of the mail that should not have come."""

    token: TokenText


class Previewed(TypedDict):
    """The attempt that a link is about."""

    email: Annotated[str, Field(description="Masked: its first character and its domain.")]
    at: Annotated[Timestamp, Field(description="When the sign-up came.")]
    origin: Annotated[str, Field(description="The network that it came from, or `unknown`.")]
    client: Annotated[
        str, Field(description="A short word for the software that it came from, or `unknown`.")
    ]
    confirmed: Annotated[bool, Field(description="It has been confirmed already.")]


_HANDLE = Parameter(HANDLE_HEADER, "The handle of the sign-up, which chooses one of several.")
_OLD_TOKEN = Parameter("token", "As it stands in the link.", where="query")


@blueprint.post("/confirm-email")
@documented(
    {200: Message},
    body=ConfirmBody,
    parameters=[_HANDLE],
    errors=[
        confirmation.TokenInvalidError,
        PasskeyInvalidError,
        confirmation.PasswordNeededError,
        confirmation.TokenExpiredError,
        PasskeyExpiredError,
        ChallengeNeededError,
        RateLimitedError,
        OverloadedError,
    ],
)
async def confirm() -> Response:
    """Confirm an address by the link's token. The same token gets the same answer again while it is valid.

    The token is what follows `#t=` in the mail's link. While several sign-ups wait for one address, the link proves
    the address only. Then 409 `password_needed` asks for the password of one of them, which becomes the account. The
    header `Regsvc-Handle` of the link's own sign-up does instead. A sign-up with a passkey is never confirmed by its
    bare link: `assertion` is the answer of its passkey to the options of `POST /api/v1/login/passkey/options`. The
    member `methods` of the 409 says which of `password` and `passkey` a waiting sign-up has.
    """
    body = await read_body(ConfirmBody)
    await flow.confirm_by_link(get_context(), get_caller(), body, request.headers.get(HANDLE_HEADER, ""))
    return answer(_CONFIRMED)


@blueprint.post("/confirm-email/code")
@documented(
    {200: Message},
    body=CodeBody,
    parameters=[HANDLE],
    errors=[
        CodeInvalidError,
        RegistrationNotFoundError,
        confirmation.TokenExpiredError,
        CodeTriesExhaustedError,
        RateLimitedError,
    ],
)
async def confirm_by_code() -> Response:
    """Confirm by the six-digit code. The client proves the attempt by its handle.

    Digits of any script count; spaces, hyphens and characters without width are ignored. A text without six digits is
    400 `code_invalid` and costs no attempt. The newest accepted mail's code works for 24 hours, and the one before it
    for ten minutes after that acceptance. Wrong codes are limited: five a code and 15 a sign-up (429
    `code_tries_exhausted`), and in 30 days ten for an address from one network (/24, or /48 of IPv6) and 200 in all.
    Beyond these two, every code is answered like a wrong one; the link still works.
    """
    context = get_context()
    body = await read_body(CodeBody)
    known = check_handle(context, body.registration, request.headers.get(HANDLE_HEADER, ""))
    await flow.confirm_by_code(context, get_caller(), known, body.code)
    return answer(_CONFIRMED)


@blueprint.post("/confirm-email/preview")
@documented(
    {200: Previewed},
    body=PreviewBody,
    errors=[
        confirmation.TokenInvalidError,
        confirmation.TokenExpiredError,
        link_preview.TokenVoidError,
        RateLimitedError,
    ],
)
async def show_preview() -> Response:
    """Show the attempt that a link would confirm: when, from which network and with what client. Changes nothing."""
    body = await read_body(PreviewBody)
    found = await flow.preview_link(get_context(), get_caller(), body.token)
    shown: Previewed = {
        "email": mask_email(found.email),
        "at": timestamp(found.created_at),
        "origin": found.origin,
        "client": found.client,
        "confirmed": found.state == "confirmed",
    }
    return answer(shown)


@blueprint.post("/confirm-email/repudiate")
@documented(
    {200: Message},
    body=RepudiateBody,
    errors=[
        confirmation.TokenInvalidError,
        confirmation.AlreadyConfirmedError,
        confirmation.TokenExpiredError,
        RateLimitedError,
    ],
)
async def repudiate() -> Response:
    """Cancel a sign-up attempt: the reader of the mail reports that it was not theirs."""
    body = await read_body(RepudiateBody)
    await flow.repudiate(get_context(), get_caller(), body.token)
    return answer(_VOIDED)


@blueprint.get("/confirm-email")
@documented(
    {303: Nothing},
    parameters=[_OLD_TOKEN],
    headers={"Location": "The page, with the token in its fragment."},
    needs_database=False,
)
async def open_page() -> Response:
    """Redirect links of older mails to the page. The token moves to the fragment, which no log sees."""
    token = request.args.get("token", "")
    target = f"{get_context().settings.public_url}/confirm"
    if read_link_token(token) is not None:
        target += f"#t={token}"
    response = empty(303)  # a body would have the token once more
    response.headers["Location"] = target
    return response
