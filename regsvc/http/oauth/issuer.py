"""What frameworks of other services look up about the issuer of our access tokens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from quart import Blueprint, Response

from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate_user
from regsvc.http.response.json_response import answer
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.signing.access_token import SealError

blueprint = Blueprint("issuer", __name__)


class Issuer(TypedDict):
    """The issuer's metadata (RFC 8414 section 2)."""

    issuer: str
    jwks_uri: str
    introspection_endpoint: str
    introspection_endpoint_auth_methods_supported: list[Literal["Bearer"]]
    revocation_endpoint: str
    revocation_endpoint_auth_methods_supported: list[Literal["none"]]
    userinfo_endpoint: str
    response_types_supported: Annotated[
        list[str], Field(description="Empty: there is no authorization endpoint.")
    ]
    grant_types_supported: Annotated[list[str], Field(description="Empty: there is no token endpoint.")]
    subject_types_supported: list[Literal["public"]]
    id_token_signing_alg_values_supported: Annotated[
        list[str], Field(description="The algorithms of the published keys, which sign access tokens.")
    ]
    service_documentation: str


class UserInfo(TypedDict):
    """The user of an access token."""

    sub: Annotated[str, Field(description="The id of the user.")]
    email: str
    email_verified: Literal[True]
    name: str
    locale: str


@blueprint.get("/.well-known/oauth-authorization-server")
@blueprint.get("/.well-known/openid-configuration")
@documented({200: Issuer}, errors=[SealError])
async def show_issuer() -> Response:
    """Show where the keys and the calls about tokens are (RFC 8414).

    The same document is at `/.well-known/openid-configuration`, where many frameworks look for the keys of an issuer.
    This is no OpenID provider: there is no authorization endpoint and no ID token. It may be cached for 10 minutes.
    """
    context = get_context()
    ring = await context.key_rings.current()
    base = context.settings.public_url
    shown: Issuer = {
        "issuer": base,
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "introspection_endpoint": f"{base}/oauth/introspect",
        "introspection_endpoint_auth_methods_supported": ["Bearer"],
        "revocation_endpoint": f"{base}/oauth/revoke",
        "revocation_endpoint_auth_methods_supported": ["none"],
        "userinfo_endpoint": f"{base}/userinfo",
        "response_types_supported": [],
        "grant_types_supported": [],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted({key.algorithm for key in ring.public.values()}),
        "service_documentation": f"{base}/docs",
    }
    return answer(shown, headers={"Cache-Control": "public, max-age=600"})


@blueprint.get("/userinfo")
@documented({200: UserInfo}, needs_token=True)
async def show_user() -> Response:
    """Show the user of an access token, in the claims of OpenID Connect."""
    _, user = await authenticate_user(get_context())
    shown: UserInfo = {
        "sub": str(user.id),
        "email": user.email,
        "email_verified": True,
        "name": user.name,
        "locale": user.locale,
    }
    return answer(shown, headers={"Cache-Control": "no-store"})
