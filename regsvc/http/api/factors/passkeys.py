"""The passkeys of one's own account."""

from __future__ import annotations

from quart import Blueprint, Response

from regsvc.accounts.factors.passkey_challenges import PasskeyExpiredError
from regsvc.accounts.factors.passkeys import (
    PasskeyKnownError,
    PasskeyNotFoundError,
    TooManyPasskeysError,
    list_passkeys,
)
from regsvc.accounts.factors.ways_in import LastWayInError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.flows.factors import passkeys as flow
from regsvc.flows.factors.passkeys import AddPasskeyBody, RenamePasskeyBody
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_body, read_id
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.formats import Nothing
from regsvc.schemas.passkeys import CreationShown, PasskeyShown, PasskeysShown, RequestShown, show_passkey
from regsvc.security.passkeys.client_data import PasskeyInvalidError

blueprint = Blueprint("passkeys", __name__)


@blueprint.get("/me/passkeys")
@documented({200: PasskeysShown}, needs_token=True)
async def list_mine() -> Response:
    """List the passkeys of the user, oldest first."""
    context = get_context()
    token = await authenticate(context)
    async with context.pool.connection() as conn:
        found = await list_passkeys(conn, token.user_id)
    shown: PasskeysShown = {"passkeys": [show_passkey(each) for each in found]}
    return answer(shown)


@blueprint.post("/me/passkeys/options")
@documented(
    {200: CreationShown},
    needs_token=True,
    errors=[ProofNeededError, TooManyPasskeysError, RateLimitedError],
)
async def offer() -> Response:
    """Get the options for another passkey. They are valid for ten minutes, once, and exclude those that one has."""
    context = get_context()
    token = await authenticate(context)
    return answer(await flow.begin_passkey(context, get_caller(), token))


@blueprint.post("/me/passkeys")
@documented(
    {201: PasskeyShown},
    body=AddPasskeyBody,
    headers={"Location": "Path of the passkey."},
    needs_token=True,
    errors=[
        PasskeyInvalidError,
        ProofNeededError,
        PasskeyKnownError,
        TooManyPasskeysError,
        PasskeyExpiredError,
        RateLimitedError,
    ],
)
async def add() -> Response:
    """Add a passkey, made with the options of `POST /api/v1/me/passkeys/options`. The user is notified by email."""
    context = get_context()
    token = await authenticate(context)
    added = await flow.add_passkey(context, get_caller(), token, await read_body(AddPasskeyBody))
    return answer(show_passkey(added), 201, {"Location": f"/api/v1/me/passkeys/{added.id}"})


@blueprint.patch("/me/passkeys/<passkey_id>")
@documented(
    {200: PasskeyShown},
    body=RenamePasskeyBody,
    needs_token=True,
    errors=[PasskeyNotFoundError, RateLimitedError],
)
async def rename(passkey_id: str) -> Response:
    """Give a passkey another name."""
    context = get_context()
    token = await authenticate(context)
    wanted = read_id(passkey_id, PasskeyNotFoundError)
    body = await read_body(RenamePasskeyBody)
    return answer(show_passkey(await flow.rename_passkey(context, get_caller(), token, wanted, body)))


@blueprint.delete("/me/passkeys/<passkey_id>")
@documented(
    {204: Nothing},
    needs_token=True,
    errors=[ProofNeededError, PasskeyNotFoundError, LastWayInError, RateLimitedError],
)
async def remove(passkey_id: str) -> Response:
    """Remove a passkey, unless it is the last way into the account. The user is notified by email.

    Its authenticator goes on offering it until it is told: `signalAllAcceptedCredentials` with the `credential_id` of
    those that remain.
    """
    context = get_context()
    token = await authenticate(context)
    await flow.remove_passkey(context, get_caller(), token, read_id(passkey_id, PasskeyNotFoundError))
    return empty()


@blueprint.post("/me/proof/options")
@documented({200: RequestShown}, needs_token=True, errors=[RateLimitedError])
async def offer_proof() -> Response:
    """Get the options for an answer of one of the user's passkeys, as `assertion` of `POST /api/v1/me/proof`."""
    context = get_context()
    return answer(await flow.begin_proof(context, get_caller(), await authenticate(context)))
