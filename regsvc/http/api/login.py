"""Log in, refresh tokens, log out."""

from __future__ import annotations

from typing import Annotated, Literal

import structlog
from pydantic import Field
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions import refresh_token
from regsvc.accounts.sessions.refresh_token import Grant
from regsvc.errors import InvalidCredentialsError, OverloadedError
from regsvc.flows import sessions
from regsvc.flows.login import LoginBody, log_in
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.fields import Body, TokenText
from regsvc.schemas.formats import Nothing
from regsvc.security.keys import ACCESS_TOKEN_LIFE, SealError

log = structlog.get_logger()
blueprint = Blueprint("sessions", __name__)


class RefreshBody(Body):
    """The refresh token."""

    refresh_token: TokenText


class Tokens(TypedDict):
    """A session's tokens."""

    token: Annotated[str, Field(description="The access token, under its older name.")]
    access_token: str
    token_type: Literal["Bearer"]
    expires_in: Annotated[int, Field(description="Seconds for which the access token is good.")]
    refresh_token: Annotated[str, Field(description="Good once, for the next pair.")]
    refresh_expires_in: Annotated[int, Field(description="Seconds for which the refresh token is good.")]


@blueprint.post("/login")
@documented(
    {200: Tokens},
    body=LoginBody,
    errors=[InvalidCredentialsError, RateLimitedError, OverloadedError, SealError],
)
async def login() -> Response:
    """Start a session.

    Unknown, wrong and not yet confirmed are one answer after one verification: a dummy's where there is no user.
    """
    context = get_context()
    body = await read_body(LoginBody)
    return await _answer_grant(context, await log_in(context, get_caller(), body.email, body.password))


@blueprint.post("/token/refresh")
@documented(
    {200: Tokens},
    body=RefreshBody,
    errors=[
        refresh_token.RefreshTokenInvalidError,
        refresh_token.RefreshTokenReusedError,
        RateLimitedError,
        SealError,
    ],
)
async def refresh() -> Response:
    """Exchange a refresh token for a new pair."""
    context = get_context()
    body = await read_body(RefreshBody)
    return await _answer_grant(context, await sessions.refresh(context, get_caller(), body.refresh_token))


@blueprint.post("/logout")
@documented({204: Nothing}, needs_token=True)
async def logout() -> Response:
    """End this session."""
    context = get_context()
    token = await authenticate(context)
    await sessions.log_out(context, get_caller(), token)
    return empty()


@blueprint.post("/logout/all")
@documented({204: Nothing}, needs_token=True)
async def logout_everywhere() -> Response:
    """End every session of this user."""
    context = get_context()
    token = await authenticate(context)
    await sessions.log_out_everywhere(context, get_caller(), token)
    return empty()


async def _answer_grant(context: Context, granted: Grant) -> Response:
    ring = await context.key_rings.current()
    access = ring.sign(granted.token())
    tokens: Tokens = {
        "token": access,
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": int(ACCESS_TOKEN_LIFE.total_seconds()),
        "refresh_token": granted.refresh_token,
        "refresh_expires_in": granted.refresh_expires_in,
    }
    return answer(tokens, headers={"Referrer-Policy": "no-referrer"})
