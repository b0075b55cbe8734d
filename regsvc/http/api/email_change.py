"""Change the email address of an account.

Nothing here looks the new address up: whether it has an account is told to its owner alone, by mail.
"""

from __future__ import annotations

import structlog
from quart import Blueprint, Response, request

from regsvc.accounts.limits.mail_schedule import TooSoonError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations.confirmation import TokenExpiredError, TokenInvalidError
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.accounts.users.email_change import EmailChangeUnprovedError
from regsvc.accounts.users.password import WrongPasswordError
from regsvc.errors import OverloadedError
from regsvc.flows.account.email_change import (
    ConfirmChangeBody,
    EmailChangeBody,
    LinkBody,
    ask_change,
    confirm_change,
    repudiate_change,
    undo_change,
)
from regsvc.flows.signup.policy import DomainNotAllowedError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.fields import address_of
from regsvc.schemas.formats import Message, Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.challenge import ChallengeNeededError
from regsvc.security.signing.access_token import AccessTokenInvalidError

log = structlog.get_logger()
blueprint = Blueprint("email_change", __name__)

_MOVED: Message = {"message": "email changed"}
_VOIDED: Message = {"message": "email change voided"}
_UNDONE: Message = {"message": "email restored"}


class ChangeAsked(TypedDict):
    """The new address is asked to confirm."""

    message: str
    next_resend_at: Timestamp | None


class UndoWaits(TypedDict):
    """The account is given back when the new address was told a day ago."""

    message: str
    undo_at: Timestamp


@blueprint.post("/me/email")
@documented(
    {202: ChangeAsked},
    body=EmailChangeBody,
    needs_token=True,
    errors=[
        DomainNotAllowedError,
        ProofNeededError,
        WrongPasswordError,
        ChallengeNeededError,
        RateLimitedError,
        TooSoonError,
        OverloadedError,
    ],
)
async def ask() -> Response:
    """Request an email change. The answer is the same whether or not the new address has an account.

    The new address gets a mail with a link, valid for 24 hours after the mail server took it; the account stays as it
    is until the link is confirmed. If the new address has an account, that mail tells its owner. Only the newest of
    several requests can be confirmed. The present address gets a notice at once, with a link that stops or undoes the
    change. The mail schedule is counted apart from that of other mails. The field error
    `same_address` means that the account has this address already.
    """
    context = get_context()
    token = await authenticate(context)
    body = await read_body(EmailChangeBody)
    shown: ChangeAsked = {
        "message": "The new address gets a mail; open its link to confirm.",
        "next_resend_at": timestamp(
            await ask_change(context, get_caller(), token, address_of(body.email), body.password)
        ),
    }
    return answer(shown, 202)


@blueprint.post("/me/email/confirm")
@documented(
    {200: Message},
    body=ConfirmChangeBody,
    errors=[
        TokenInvalidError,
        AccessTokenInvalidError,
        WrongPasswordError,
        EmailChangeUnprovedError,
        TokenExpiredError,
        ChallengeNeededError,
        RateLimitedError,
        OverloadedError,
    ],
)
async def confirm() -> Response:
    """Confirm the new address with the link sent there. The old address is told, and may undo the change for 7 days.

    The call takes an access token of the account, or its password, too. The link alone is 409 `password_needed`: it
    proves the mailbox, and not that its reader wants this account. The same token gets the same answer again while it
    is valid. Sessions go on; the profile has a new `ETag`.
    """
    context = get_context()
    visitor = await authenticate(context) if "Authorization" in request.headers else None
    await confirm_change(context, get_caller(), await read_body(ConfirmChangeBody), visitor)
    return answer(_MOVED)


@blueprint.post("/me/email/repudiate")
@documented(
    {200: Message},
    body=LinkBody,
    errors=[TokenInvalidError, TokenExpiredError, RateLimitedError],
)
async def repudiate() -> Response:
    """Cancel an email change with the link sent to the new address: its reader did not request it.

    The link cannot move the account any more, and for 30 days at most one such mail a day goes to this address.
    """
    await repudiate_change(get_context(), get_caller(), await read_body(LinkBody))
    return answer(_VOIDED)


@blueprint.post("/me/email/undo")
@documented(
    {200: Message, 202: UndoWaits},
    body=LinkBody,
    errors=[
        TokenInvalidError,
        TokenExpiredError,
        ChallengeNeededError,
        RateLimitedError,
    ],
)
async def undo() -> Response:
    """Undo an email change with the link sent to the old address.

    The link works for 7 days from the request and from the change. The account keeps or gets back the old address,
    every session ends, the password is void, and a link to choose a new one is mailed there. Later email changes are
    void, too. If a password was chosen by a mail to the new address since, the answer is 202: that address is told
    first, and the same link works from `undo_at` on, 24 hours later, for two days.
    """
    undo_at = await undo_change(get_context(), get_caller(), await read_body(LinkBody))
    if undo_at is None:
        return answer(_UNDONE)
    waits: UndoWaits = {"message": "the new address has been told", "undo_at": timestamp(undo_at)}
    return answer(waits, 202)
