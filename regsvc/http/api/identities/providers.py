"""Identity providers for other clients: which there are, and a code of ours for tokens."""

from __future__ import annotations

from quart import Blueprint, Response

from regsvc.accounts.factors.pending_logins import SecondFactorRequiredError
from regsvc.accounts.identities.login_codes import LoginCodeInvalidError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.flows.identities.exchange import ExchangeBody, exchange
from regsvc.flows.identities.settling import AddressMissingError, LocalLoginNeededError, SignUpBegun
from regsvc.flows.signup.hook import SignupRefusedError, SignupUnavailableError
from regsvc.flows.signup.policy import (
    DomainNotAllowedError,
    InvitationNeededError,
    SignupClosedError,
    TermsNeededError,
)
from regsvc.http.api.login import Tokens, answer_grant
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.formats import Id
from regsvc.schemas.identities import ProvidersShown
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.identities.errors import IdentityRefusedError
from regsvc.security.signing.access_token import SealError
from regsvc.security.tokens import mint_handle

blueprint = Blueprint("identity_providers", __name__)


class SignUpAsked(TypedDict):
    """A sign-up whose address has to be confirmed by mail; watch it with its handle."""

    id: Id
    handle: str


@blueprint.get("/identity-providers")
@documented({200: ProvidersShown}, needs_database=False)
async def list_providers() -> Response:
    """List the identity providers of this service, for buttons.

    A browser begins at `url`. Another client, such as an app, opens `url?return_to=…&code_challenge=…` in a browser
    (RFC 8252), with a URI that is listed in `REGSVC_OIDC_RETURN_TO` and the S256 challenge of a random verifier (RFC
    7636). It gets `code` in that URI, or `error`.
    """
    settings = get_context().settings
    shown: ProvidersShown = {
        "providers": [
            {
                "name": each.name,
                "label": each.label,
                "url": f"{settings.public_url}/login/with/{each.name}",
            }
            for each in settings.oidc_providers
        ]
    }
    return answer(shown)


@blueprint.post("/token/exchange")
@documented(
    {200: Tokens, 202: SignUpAsked},
    body=ExchangeBody,
    errors=[
        LoginCodeInvalidError,
        SecondFactorRequiredError,
        SignupClosedError,
        InvitationNeededError,
        DomainNotAllowedError,
        TermsNeededError,
        SignupRefusedError,
        SignupUnavailableError,
        LocalLoginNeededError,
        AddressMissingError,
        IdentityRefusedError,
        RateLimitedError,
        SealError,
    ],
)
async def exchange_code() -> Response:
    """Exchange the code of a login with an identity provider for the tokens of a session.

    The code is good once, within 60 s, for the client that knows the verifier of its challenge. 202 means that the
    provider does not vouch for the address: a sign-up has begun, and its mail decides. 409 `local_login_needed` means
    that the address has an account which the provider's word is not enough for: log in to it, then add the identity
    with `POST /me/identities`. 422 `terms_needed` means that an account would be opened: exchange the same code again,
    with `terms`.
    """
    context = get_context()
    found = await exchange(context, get_caller(), await read_body(ExchangeBody))
    if not isinstance(found, SignUpBegun):
        return await answer_grant(context, found)
    shown: SignUpAsked = {
        "id": str(found.registration_id),
        "handle": mint_handle(context.secrets, found.registration_id),
    }
    return answer(shown, 202, {"Referrer-Policy": "no-referrer"})
