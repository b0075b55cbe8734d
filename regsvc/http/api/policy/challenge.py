"""Ask whether a call needs proof of work, before it is made."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints
from quart import Blueprint, Response

from regsvc.accounts.address import find_key
from regsvc.flows.challenge import Purpose
from regsvc.flows.rate_limits import offer_challenge
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.fields import Body
from regsvc.schemas.signup.policy import ChallengeShown
from regsvc.schemas.typed_dict import TypedDict

blueprint = Blueprint("challenge", __name__)


class ChallengeBody(Body):
    """Which call is to be made."""

    purpose: Annotated[Purpose, Field(description="The call; a solution is good for this one alone.")]
    email: Annotated[
        Annotated[str, StringConstraints(max_length=320)] | None,
        Field(description="The address, for `login` and `password`, where a limit counts by it."),
    ] = None


class ChallengeOffered(TypedDict):
    """A challenge, if the call needs one at this moment."""

    challenge: ChallengeShown | None


@blueprint.post("/challenge")
@documented({200: ChallengeOffered}, body=ChallengeBody)
async def offer() -> Response:
    """Get a challenge before a call that mails or hashes, so that it need not be made twice.

    Without this call, the answer 428 `challenge_needed` brings the challenge. Nothing is counted or stored.
    """
    body = await read_body(ChallengeBody)
    address = None if body.email is None else find_key(body.email) or f"? {body.email}"
    found: dict[str, Any] | None = await offer_challenge(get_context(), get_caller(), body.purpose, address)
    return answer({"challenge": found})
