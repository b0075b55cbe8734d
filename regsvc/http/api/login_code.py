"""Log in with a code that is mailed."""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import StringConstraints
from quart import Blueprint, Response, request

from regsvc.accounts.factors.pending_logins import SecondFactorRequiredError
from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations.confirmation import TokenExpiredError
from regsvc.accounts.registrations.confirmation_code import CodeInvalidError
from regsvc.accounts.registrations.login_code import LoginCodeTriesExhaustedError
from regsvc.accounts.registrations.registration import RegistrationNotFoundError, RegistrationOverError
from regsvc.flows.login.login_code import ask_for_code, log_in_by_code
from regsvc.flows.signup.signup import check_handle
from regsvc.http.api.login import Tokens, answer_grant
from regsvc.http.api.registrations import HANDLE, HANDLE_HEADER
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented
from regsvc.http.request import idempotency
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.fields import Body, EmailText, address_of
from regsvc.schemas.formats import Id, Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.challenge import ChallengeNeededError
from regsvc.security.signing.access_token import SealError
from regsvc.security.tokens import mint_handle

log = structlog.get_logger()
blueprint = Blueprint("login_code", __name__)


class CodeRequestBody(Body):
    """The address; with an earlier attempt (and its handle) it is that attempt's code that comes again."""

    email: EmailText
    login: Annotated[str, StringConstraints(max_length=64)] | None = None


class CodeVerifyBody(Body):
    """The attempt and the six digits from its mail, as they were typed or pasted."""

    login: Annotated[str, StringConstraints(max_length=64)]
    code: Annotated[str, StringConstraints(max_length=64)]


class CodeAsked(TypedDict):
    """A mail is on its way to this address."""

    message: str
    login: Id
    next_resend_at: Timestamp | None


_HANDLE = Parameter(HANDLE_HEADER, "The handle of the earlier attempt, if `login` is given.")


@blueprint.post("/login/code")
@documented(
    {202: CodeAsked},
    body=CodeRequestBody,
    parameters=[_HANDLE, idempotency.PARAMETER],
    headers={
        "Location": "Path of the live status, as of a registration.",
        HANDLE_HEADER: "The handle: the status and the code work for the client that keeps it.",
    },
    errors=[
        *idempotency.ERRORS,
        RegistrationNotFoundError,
        RegistrationOverError,
        ChallengeNeededError,
        RateLimitedError,
        TooSoonError,
    ],
)
async def ask() -> Response:
    """Request a code to log in with. The answer is the same whether or not the address has an account.

    The owner of an account gets six digits, valid for ten minutes after the mail server took the mail; an address
    without an account gets a mail that says so. `Location` has the status of the mail, in the states of a sign-up, to
    the holder of the handle: `GET` with `?wait=S`, and the websocket at `/live`. It is `confirmed` once the code was
    taken, and `expired` when it can no longer be. The mail schedule is counted apart from that of other mails.
    """
    context = get_context()
    body = await read_body(CodeRequestBody)
    known = None
    if body.login is not None:
        known = check_handle(context, body.login, request.headers.get(HANDLE_HEADER, ""))
    asked = await ask_for_code(
        context, get_caller(), address_of(body.email), known, idempotency.read_once(body)
    )
    shown: CodeAsked = {
        "message": "A mail is on the way.",
        "login": str(asked.id),
        "next_resend_at": timestamp(asked.next_resend_at),
    }
    location = {
        "Location": f"/api/v1/registrations/{asked.id}",
        HANDLE_HEADER: mint_handle(context.secrets, asked.id),
    }
    return answer(shown, 202, location)


@blueprint.post("/login/code/verify")
@documented(
    {200: Tokens},
    body=CodeVerifyBody,
    parameters=[HANDLE],
    errors=[
        CodeInvalidError,
        SecondFactorRequiredError,
        RegistrationNotFoundError,
        TokenExpiredError,
        LoginCodeTriesExhaustedError,
        RateLimitedError,
        SealError,
    ],
)
async def verify() -> Response:
    """Start a session with the mailed code, once. The client proves the attempt by its handle.

    Digits of any script count; spaces, hyphens and characters without width are ignored. A text without six digits is
    400 `code_invalid` and costs no attempt. Wrong codes are limited: five a code and 15 an attempt (429
    `code_tries_exhausted`), and in 30 days ten for an address from one network (/24, or /48 of IPv6) and 200 in all.
    Beyond these two, every code is answered like a wrong one; the 200 do not count where the owner has logged in
    before. A user with an authenticator app gets 401 `second_factor_required`, as after a password.
    """
    context = get_context()
    body = await read_body(CodeVerifyBody)
    known = check_handle(context, body.login, request.headers.get(HANDLE_HEADER, ""))
    return await answer_grant(context, await log_in_by_code(context, get_caller(), known, body.code))
