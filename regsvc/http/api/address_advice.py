"""Advice on an address while it is typed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from quart import Blueprint, Response

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.flows.signup.address_advice import AdviceBody, Problem, advise
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.typed_dict import TypedDict

blueprint = Blueprint("address_advice", __name__)


class AdviceShown(TypedDict):
    """What to tell the person who types."""

    suggestion: Annotated[str | None, Field(description="The address that was probably meant.")]
    problem: Annotated[Problem | None, Field(description="What is wrong with the domain as typed.")]


@blueprint.post("/address-advice")
@documented({200: AdviceShown}, body=AdviceBody, errors=[RateLimitedError])
async def advise_on_address() -> Response:
    """Look for a slip in the domain of an address, as advice only: `POST /register` refuses nothing because of it.

    The answer depends on the domain alone. `takes_no_mail`: the domain does not exist, says that it takes no mail, or
    has no host for it. When the DNS is slow, both are `null`.
    """
    advice = await advise(get_context(), get_caller(), (await read_body(AdviceBody)).email)
    shown: AdviceShown = {"suggestion": advice.suggestion, "problem": advice.problem}
    return answer(shown)
