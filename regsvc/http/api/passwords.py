"""Change a password, or reset a forgotten one.

A request for a password reset does not look up whether the address has an account. It is stored alike for every
address, and decided when its mail is claimed. No password is hashed inside a transaction.
"""

from __future__ import annotations

import structlog
from quart import Blueprint, Response

from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations.confirmation import TokenExpiredError, TokenInvalidError
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.accounts.users.password import WrongPasswordError
from regsvc.errors import OverloadedError, WeakPasswordError
from regsvc.flows.account.password import (
    ChangeBody,
    ForgotBody,
    ResetBody,
    ask_for_link,
    change_own,
    set_by_link,
)
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request import idempotency
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.request.idempotency import read_once
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.fields import address_of
from regsvc.schemas.formats import Nothing, Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.challenge import ChallengeNeededError

log = structlog.get_logger()
blueprint = Blueprint("passwords", __name__)


class Asked(TypedDict):
    """A mail is on its way if this address has an account."""

    message: str
    next_resend_at: Timestamp | None


@blueprint.put("/me/password")
@documented(
    {204: Nothing},
    body=ChangeBody,
    needs_token=True,
    errors=[
        ProofNeededError,
        WrongPasswordError,
        WeakPasswordError,
        ChallengeNeededError,
        RateLimitedError,
        OverloadedError,
    ],
)
async def change() -> Response:
    """Change the password, given the current one or a proof of the last five minutes.

    Every other session ends, and the user is notified by email.
    """
    context = get_context()
    await change_own(context, get_caller(), await authenticate(context), await read_body(ChangeBody))
    return empty()


@blueprint.post("/password/forgot")
@documented(
    {202: Asked},
    body=ForgotBody,
    parameters=[idempotency.PARAMETER],
    errors=[*idempotency.ERRORS, ChallengeNeededError, RateLimitedError, TooSoonError],
)
async def forgot() -> Response:
    """Request a password reset link. The answer is the same whether or not the address has an account.

    An address whose sign-up still waits for its confirmation gets nothing; the mail it needs comes from `POST
    /api/v1/confirm-email/resend`. The mail schedule is counted apart from that of other mails.
    """
    body = await read_body(ForgotBody)
    shown: Asked = {
        "message": "If this address has an account, a mail to choose a new password is on the way.",
        "next_resend_at": timestamp(
            await ask_for_link(get_context(), get_caller(), address_of(body.email), read_once(body))
        ),
    }
    return answer(shown, 202)


@blueprint.post("/password/reset")
@documented(
    {204: Nothing},
    body=ResetBody,
    errors=[
        TokenInvalidError,
        TokenExpiredError,
        WeakPasswordError,
        ChallengeNeededError,
        RateLimitedError,
        OverloadedError,
    ],
)
async def reset() -> Response:
    """Set a new password by the token of a reset link, once. Every session ends; the user is notified by email.

    The token is what follows `#t=` in the mail's link. It is valid for 30 minutes after the mail server took the
    mail, and only until the password or the address changes in any other way. A refused password does not spend it.
    """
    body = await read_body(ResetBody)
    await set_by_link(get_context(), get_caller(), body)
    return empty()
