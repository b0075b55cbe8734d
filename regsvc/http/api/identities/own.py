"""The user's own identities."""

from __future__ import annotations

from quart import Blueprint, Response

from regsvc.accounts.factors.ways_in import LastWayInError
from regsvc.accounts.identities.identity import (
    IdentityNotFoundError,
    IdentityTakenError,
    TooManyIdentitiesError,
    list_identities,
)
from regsvc.accounts.identities.login_codes import LoginCodeInvalidError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.flows.identities.exchange import CodeBody, link_by_code, prove_by_code
from regsvc.flows.identities.own_identities import unlink
from regsvc.http.api.factors.proof import Proved
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_body, read_id
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.formats import Nothing, timestamp
from regsvc.schemas.identities import IdentitiesShown, show_identity
from regsvc.security.identities.errors import IdentityRefusedError

blueprint = Blueprint("my_identities", __name__)


@blueprint.get("/me/identities")
@documented({200: IdentitiesShown}, needs_token=True)
async def list_mine() -> Response:
    """List the identities by which the user can log in, oldest first."""
    context = get_context()
    token = await authenticate(context)
    async with context.pool.connection() as conn:
        found = await list_identities(conn, token.user_id)
    shown: IdentitiesShown = {"identities": [show_identity(each) for each in found]}
    return answer(shown)


@blueprint.post("/me/identities")
@documented(
    {204: Nothing},
    body=CodeBody,
    needs_token=True,
    errors=[
        ProofNeededError,
        LoginCodeInvalidError,
        IdentityTakenError,
        TooManyIdentitiesError,
        RateLimitedError,
    ],
)
async def add() -> Response:
    """Add the identity that the code of a login with a provider stands for.

    The code comes as for `POST /token/exchange`. The session has to have proved its user. The mailbox is told.
    """
    context = get_context()
    token = await authenticate(context)
    await link_by_code(context, get_caller(), token, await read_body(CodeBody))
    return empty()


@blueprint.post("/me/identities/proof")
@documented(
    {200: Proved},
    body=CodeBody,
    needs_token=True,
    errors=[LoginCodeInvalidError, IdentityRefusedError, RateLimitedError],
)
async def prove() -> Response:
    """Prove that the user of this session is there, by a login with the provider of one of their identities.

    The code comes as for `POST /token/exchange`. It holds as `POST /me/proof` does.
    """
    context = get_context()
    token = await authenticate(context)
    until = await prove_by_code(context, get_caller(), token, await read_body(CodeBody))
    shown: Proved = {"proved_until": timestamp(until)}
    return answer(shown)


@blueprint.delete("/me/identities/<identity_id>")
@documented(
    {204: Nothing},
    needs_token=True,
    errors=[ProofNeededError, IdentityNotFoundError, LastWayInError, RateLimitedError],
)
async def remove(identity_id: str) -> Response:
    """Remove an identity, unless it is the last way in.

    The session has to have proved its user. The mailbox is told.
    """
    context = get_context()
    token = await authenticate(context)
    await unlink(context, get_caller(), token, read_id(identity_id, IdentityNotFoundError))
    return empty()
