"""The terms of use that the user accepted, and accepting a new version."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from quart import Blueprint, Response

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.users.terms import Acceptance
from regsvc.flows.account.terms import TermsBody, accept_own, read_acceptance
from regsvc.flows.signup.policy import TermsNeededError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.formats import Timestamp, timestamp
from regsvc.schemas.signup.policy import TermsShown
from regsvc.schemas.typed_dict import TypedDict

blueprint = Blueprint("terms", __name__)


class OwnTerms(TypedDict):
    """The terms of the service, and what the user accepted."""

    accepted: Annotated[str | None, Field(description="The version that the user accepted last.")]
    accepted_at: Timestamp | None
    present: Annotated[TermsShown | None, Field(description="The terms of the service, if it has any.")]


@blueprint.get("/me/terms")
@documented({200: OwnTerms}, needs_token=True)
async def show() -> Response:
    """Show which terms the user accepted last. If that is not the present version, ask the user for it."""
    context = get_context()
    token = await authenticate(context)
    return _answer(await read_acceptance(context, token))


@blueprint.post("/me/terms")
@documented({200: OwnTerms}, body=TermsBody, needs_token=True, errors=[TermsNeededError, RateLimitedError])
async def accept() -> Response:
    """Accept the present version of the terms, by its name."""
    context = get_context()
    token = await authenticate(context)
    return _answer(await accept_own(context, get_caller(), token, await read_body(TermsBody)))


def _answer(accepted: Acceptance) -> Response:
    terms = get_context().settings.terms
    shown: OwnTerms = {
        "accepted": accepted.version,
        "accepted_at": timestamp(accepted.at),
        "present": None if terms is None else {"version": terms.version, "url": terms.url},
    }
    return answer(shown)
