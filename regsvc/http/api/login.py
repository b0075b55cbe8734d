"""Log in, refresh tokens, log out."""

from __future__ import annotations

from typing import Annotated, Literal

import structlog
from pydantic import Field
from quart import Blueprint, Response

from regsvc.accounts.factors.pending_logins import SecondFactorRequiredError
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions import refresh_token
from regsvc.accounts.sessions.refresh_token import Grant
from regsvc.errors import InvalidCredentialsError, OverloadedError
from regsvc.flows.login import sessions
from regsvc.flows.login.login import LoginBody, log_in
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_body
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer, empty
from regsvc.http.response.site_data import HEADER as CLEAR_SITE_DATA
from regsvc.http.response.site_data import clear_site_data
from regsvc.schemas.fields import Body, TokenText
from regsvc.schemas.formats import Nothing
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.challenge import ChallengeNeededError
from regsvc.security.signing.access_token import SealError
from regsvc.security.signing.key_lives import ACCESS_TOKEN_LIFE

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


_CLEARED = {CLEAR_SITE_DATA: "Has a browser forget what it stored for this origin, cookies apart."}


@blueprint.post("/login")
@documented(
    {200: Tokens},
    body=LoginBody,
    errors=[
        InvalidCredentialsError,
        SecondFactorRequiredError,
        ChallengeNeededError,
        RateLimitedError,
        OverloadedError,
        SealError,
    ],
)
async def login() -> Response:
    """Start a session.

    401 `invalid_credentials` is the one answer, in the same time, for an unknown address, a wrong password, and an
    address that is not confirmed yet. After ten failed login attempts the next ones for that address wait: 30 s, then
    twice as long each time, up to an hour; 429 `rate_limited` says how long in `Retry-After`. Attempts are counted by
    the address as typed, whether or not it has an account. A known client is counted on its own, so that it waits for
    its own mistakes only: one that logged in to this address in the last 90 days, or opened a link or typed a code
    mailed there. A successful login clears its client's own mistakes; those of others are cleared after a day without
    any.

    A user with an authenticator app gets no tokens yet. Once the password is right, the answer is 401
    `second_factor_required` with an `mfa_token` and the `methods` for `POST /api/v1/login/second-factor`.
    """
    context = get_context()
    body = await read_body(LoginBody)
    return await answer_grant(context, await log_in(context, get_caller(), body.email, body.password))


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
    """Exchange a refresh token for a new pair.

    The old token is spent. Requests that use it at the same time, within 10 s, get the same new one. Used later, it
    counts as stolen: 401 `refresh_token_reused`, the session ends, and its owner is told by email. 401
    `refresh_token_invalid` means unknown, expired (7 days, 30 for the whole session), or of a session that ended.
    """
    context = get_context()
    body = await read_body(RefreshBody)
    return await answer_grant(context, await sessions.refresh(context, get_caller(), body.refresh_token))


@blueprint.post("/logout")
@documented({204: Nothing}, needs_token=True, headers=_CLEARED)
async def logout() -> Response:
    """End this session, and with it its tokens."""
    context = get_context()
    token = await authenticate(context)
    await sessions.log_out(context, get_caller(), token)
    return clear_site_data(empty())


@blueprint.post("/logout/all")
@documented({204: Nothing}, needs_token=True, headers=_CLEARED)
async def logout_everywhere() -> Response:
    """End every session of this user, and with them their tokens."""
    context = get_context()
    token = await authenticate(context)
    await sessions.log_out_everywhere(context, get_caller(), token)
    return clear_site_data(empty())


async def answer_grant(context: Context, granted: Grant) -> Response:
    """Answer with the tokens of a session."""
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
