"""Take an account back by the link in a security notice."""

from __future__ import annotations

import structlog
from quart import Blueprint, Response

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.registrations.confirmation import TokenExpiredError, TokenInvalidError
from regsvc.flows.account.email_change import LinkBody
from regsvc.flows.account.panic import take_back
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.formats import Message, Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.challenge import ChallengeNeededError

log = structlog.get_logger()
blueprint = Blueprint("panic", __name__)

_TAKEN_BACK: Message = {"message": "account taken back"}


class PanicWaits(TypedDict):
    """The account is given back when the new address was told a day ago."""

    message: str
    undo_at: Timestamp


@blueprint.post("/me/panic")
@documented(
    {200: Message, 202: PanicWaits},
    body=LinkBody,
    errors=[TokenInvalidError, TokenExpiredError, ChallengeNeededError, RateLimitedError],
)
async def panic() -> Response:
    """Take the account back with the link in a notice of a new login or of a changed factor or identity.

    The link works once, for 7 days after what the notice tells. Every session ends, the password is void, factors and
    identities added since are removed, an email change since is undone, and a link to choose a new password is mailed
    to the address that the notice went to. If a password was chosen by a mail to a new address since, the answer is
    202: that address is told first, and the same link works from `undo_at` on, 24 hours later, for two days.
    """
    undo_at = await take_back(get_context(), get_caller(), await read_body(LinkBody))
    if undo_at is None:
        return answer(_TAKEN_BACK)
    waits: PanicWaits = {"message": "the new address has been told", "undo_at": timestamp(undo_at)}
    return answer(waits, 202)
