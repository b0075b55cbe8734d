"""Log in with a passkey."""

from __future__ import annotations

from quart import Blueprint, Response

from regsvc.accounts.factors.passkey_challenges import PasskeyExpiredError
from regsvc.accounts.factors.passkeys import PasskeyUnconfirmedError, PasskeyUnknownError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.errors import InvalidCredentialsError
from regsvc.flows.factors.passkey_answers import begin_answer
from regsvc.flows.factors.passkey_login import log_in_with_passkey
from regsvc.http.api.login import Tokens, answer_grant
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.fields import Body
from regsvc.schemas.passkeys import AssertedPasskey, RequestShown
from regsvc.security.passkeys.client_data import PasskeyInvalidError
from regsvc.security.signing.access_token import SealError

blueprint = Blueprint("passkey_login", __name__)


class PasskeyLoginBody(Body):
    """The answer of the passkey."""

    assertion: AssertedPasskey


@blueprint.post("/login/passkey/options")
@documented({200: RequestShown}, errors=[RateLimitedError])
async def offer() -> Response:
    """Get the options for an answer of a passkey. They are valid for ten minutes, once, and name no passkey.

    Hand `publicKey` to `PublicKeyCredential.parseRequestOptionsFromJSON()` and the result to
    `navigator.credentials.get()`, with `mediation: "conditional"` for autofill. A page that stays open asks for new
    options before these end. The answer also serves as second factor and to confirm a sign-up.
    """
    return answer(await begin_answer(get_context(), get_caller()))


@blueprint.post("/login/passkey")
@documented(
    {200: Tokens},
    body=PasskeyLoginBody,
    errors=[
        PasskeyInvalidError,
        InvalidCredentialsError,
        PasskeyUnknownError,
        PasskeyUnconfirmedError,
        PasskeyExpiredError,
        RateLimitedError,
        SealError,
    ],
)
async def login() -> Response:
    """Start a session by the answer of a passkey, which is both factors.

    401 `passkey_unknown`: no account has it, so a client may have it forgotten (`signalUnknownCredential`). 410
    `passkey_expired`: the challenge is too old or was answered before; ask for new options.
    """
    context = get_context()
    body = await read_body(PasskeyLoginBody)
    return await answer_grant(context, await log_in_with_passkey(context, get_caller(), body.assertion))
