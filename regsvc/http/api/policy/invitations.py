"""Accept an invitation."""

from __future__ import annotations

from quart import Blueprint, Response

from regsvc.accounts.invitations.acceptance import InvitationInvalidError
from regsvc.accounts.invitations.invitation import InvitationOverError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.errors import OverloadedError, WeakPasswordError
from regsvc.flows.signup.hook import SignupRefusedError, SignupUnavailableError
from regsvc.flows.signup.invitations import AcceptBody, accept
from regsvc.flows.signup.policy import SignupClosedError, TermsNeededError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.formats import Message
from regsvc.security.challenge import ChallengeNeededError

blueprint = Blueprint("invitations", __name__)


@blueprint.post("/invitations/accept")
@documented(
    {200: Message},
    body=AcceptBody,
    errors=[
        SignupClosedError,
        TermsNeededError,
        InvitationInvalidError,
        InvitationOverError,
        SignupRefusedError,
        SignupUnavailableError,
        WeakPasswordError,
        ChallengeNeededError,
        RateLimitedError,
        OverloadedError,
    ],
)
async def accept_invitation() -> Response:
    """Accept an invitation by the token of its link: the invited address becomes an account, confirmed by the mail.

    It works once. Other sign-ups that wait for the address end, since the account has the password that is given here.
    """
    context = get_context()
    await accept(context, get_caller(), await read_body(AcceptBody))
    told: Message = {"message": "account created"}
    return answer(told)
