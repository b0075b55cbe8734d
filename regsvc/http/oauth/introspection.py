"""Ask what a token is good for (RFC 7662), and revoke one (RFC 7009)."""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

import structlog
from pydantic import Field
from quart import Blueprint, Response

from regsvc.errors import ValidationFailedError
from regsvc.flows.login.token_state import TokenState, find_refresh_state, revoke
from regsvc.http.context import Context, get_context
from regsvc.http.oauth.forms import read_token_form
from regsvc.http.openapi.operation import documented
from regsvc.http.request.caller import get_caller
from regsvc.http.request.operators import authenticate_service
from regsvc.http.response.errors import FormNeededError
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.formats import Nothing
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.signing.access_token import AccessTokenInvalidError, SealError, read_expiry

log = structlog.get_logger()
blueprint = Blueprint("oauth", __name__)


class Introspected(TypedDict):
    """What a token is good for; of one that is not good, `active` alone."""

    active: bool
    token_type: NotRequired[Literal["access_token", "refresh_token"]]
    iss: NotRequired[str]
    aud: NotRequired[str]
    sub: NotRequired[Annotated[str, Field(description="The id of the user.")]]
    sid: NotRequired[Annotated[str, Field(description="The id of the session.")]]
    role: NotRequired[str]
    exp: NotRequired[Annotated[int, Field(description="When it expires, as Unix time.")]]


@blueprint.post("/oauth/introspect")
@documented(
    {200: Introspected}, scope="tokens:introspect", errors=[FormNeededError, ValidationFailedError, SealError]
)
async def introspect() -> Response:
    """Return what a token is good for at this moment (RFC 7662 section 2), for another service.

    The body is a form with the field `token`, an access token or a refresh token; the caller is a service with a
    service token of the scope `tokens:introspect`. A session that has ended, a user who is disabled and a token that
    is not ours are all `{"active": false}`.
    """
    context = get_context()
    service = await authenticate_service(context)
    form = await read_token_form()
    state = await _find_state(context, form.token)
    log.info("token introspected", actor=str(service.id), active=state is not None)
    shown: Introspected = {"active": False}
    if state is not None:
        issuer = context.settings.public_url
        shown = {
            "active": True,
            "token_type": state.kind,
            "iss": issuer,
            "aud": issuer,
            "sub": str(state.user_id),
            "sid": str(state.session_id),
            "role": state.role,
            "exp": state.expires_at,
        }
    return answer(shown, headers={"Cache-Control": "no-store"})


@blueprint.post("/oauth/revoke")
@documented({200: Nothing}, errors=[FormNeededError, ValidationFailedError, SealError])
async def revoke_token() -> Response:
    """End the session of a token (RFC 7009). The body is a form with the field `token`.

    An access token or a refresh token is its own proof; no other is asked for. A token that is not good is answered
    alike, because the client wanted it gone.
    """
    context = get_context()
    form = await read_token_form()
    state = await _find_state(context, form.token)
    if state is not None:
        await revoke(context, get_caller(), state)
    return empty(200)


async def _find_state(context: Context, text: str) -> TokenState | None:
    try:
        token = await context.key_rings.verify(text)
    except AccessTokenInvalidError:
        return await find_refresh_state(context, text)
    user = await context.acting_users.find(token.session_id)
    if user is None or user.id != token.user_id:
        return None
    return TokenState("access_token", token.user_id, token.session_id, user.role, read_expiry(text))
