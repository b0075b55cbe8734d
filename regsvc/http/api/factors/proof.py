"""Prove in a session that its user is there."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from quart import Blueprint, Response

from regsvc.accounts.factors.passkey_challenges import PasskeyExpiredError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions.proof import WrongCodeError
from regsvc.accounts.users.password import WrongPasswordError
from regsvc.errors import OverloadedError
from regsvc.flows.login.proof import ProofBody, give_proof
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.formats import Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.challenge import ChallengeNeededError

blueprint = Blueprint("proof", __name__)


class Proved(TypedDict):
    """The session has proved its user."""

    proved_until: Annotated[Timestamp, Field(description="Until then, changes of the account need no proof.")]


@blueprint.post("/me/proof")
@documented(
    {200: Proved},
    body=ProofBody,
    needs_token=True,
    errors=[
        WrongPasswordError,
        WrongCodeError,
        PasskeyExpiredError,
        ChallengeNeededError,
        RateLimitedError,
        OverloadedError,
    ],
)
async def prove() -> Response:
    """Prove that the user of this session is there, by the password, a code, or one of their passkeys.

    An `assertion` answers the options of `POST /api/v1/me/proof/options`.

    It holds for five minutes, for this session. Changes of password, address and second factors, the export and the
    deletion of the account need it, and answer 403 `proof_needed` with the possible `methods` otherwise. Calls that
    take the password in their body take it as a proof for that one call. The session's next access tokens name what
    was proved in `amr`, and the time in `auth_time`.
    """
    context = get_context()
    token = await authenticate(context)
    until = await give_proof(context, get_caller(), token, await read_body(ProofBody))
    shown: Proved = {"proved_until": timestamp(until)}
    return answer(shown)
