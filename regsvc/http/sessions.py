"""Logging in, staying logged in, logging out."""

from __future__ import annotations

from typing import Annotated, Literal

import structlog
from pydantic import Field, StringConstraints
from quart import Blueprint, Response, request
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts import session, user
from regsvc.accounts.address import AddressError, parse_address
from regsvc.accounts.login_tries import forgive_tries, withdraw_try
from regsvc.accounts.session import Grant
from regsvc.accounts.throttle import RateLimitedError
from regsvc.errors import DatabaseUnavailableError, OverloadedError
from regsvc.http.answers import answer, empty
from regsvc.http.bodies import Body, PasswordText, TokenText, read_body
from regsvc.http.clients import get_client_word, get_origin
from regsvc.http.context import Context, get_context
from regsvc.http.documented import Nothing, documented
from regsvc.http.problems import InvalidCredentialsError
from regsvc.http.throttling import begin_login
from regsvc.security.keys import ACCESS_TOKEN_LIFE, AccessToken, AccessTokenInvalidError, SealError

log = structlog.get_logger()
blueprint = Blueprint("sessions", __name__)

_SCHEME = "bearer "


class LoginBody(Body):
    """Who logs in. An address that cannot be one is simply unknown."""

    email: Annotated[str, StringConstraints(max_length=320)]
    password: PasswordText


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
    errors=[InvalidCredentialsError, RateLimitedError, OverloadedError, DatabaseUnavailableError, SealError],
)
async def login() -> Response:
    """Start a session.

    Unknown, wrong and not yet confirmed are one answer after one verification: a dummy's where there is no user.
    """
    context = get_context()
    body = await read_body(LoginBody)
    credentials = None
    try:
        key = parse_address(body.email).key
    except AddressError:
        key = ""
    tried = await begin_login(key or body.email.casefold())
    async with context.pool.connection() as conn:
        credentials = await user.find_credentials(conn, key)
    try:
        verdict = await context.lane.verify(body.password, credentials.password_hash if credentials else None)
    except OverloadedError:
        if tried is not None:
            async with context.pool.connection() as conn:
                await withdraw_try(conn, tried)
        raise
    if verdict.unreadable and credentials is not None:
        log.error("stored password hash not readable", user=str(credentials.user_id))
    if credentials is None or not verdict.ok:
        raise InvalidCredentialsError
    fresh = await _rehash(context, body.password) if verdict.rehash_needed else None
    async with context.pool.transaction() as conn:
        if fresh is not None:
            await user.replace_password_hash(
                conn, credentials.user_id, old=credentials.password_hash, new=fresh
            )
        if tried is not None:
            await forgive_tries(conn, tried)
        grant = await session.start_session(
            conn, credentials.user_id, role=credentials.role, origin=get_origin(), client=get_client_word()
        )
    log.info("logged in", user=str(grant.user_id), session=str(grant.session_id))
    return await _answer_grant(context, grant)


@blueprint.post("/token/refresh")
@documented(
    {200: Tokens},
    body=RefreshBody,
    errors=[
        session.RefreshTokenInvalidError,
        session.RefreshTokenReusedError,
        DatabaseUnavailableError,
        SealError,
    ],
)
async def refresh() -> Response:
    """Exchange a refresh token for a new pair."""
    context = get_context()
    body = await read_body(RefreshBody)
    async with context.pool.transaction() as conn:
        grant = await session.refresh_session(conn, context.secrets, body.refresh_token)
    if grant is None:
        log.warning("refresh token reused")
        raise session.RefreshTokenReusedError
    return await _answer_grant(context, grant)


@blueprint.post("/logout")
@documented({204: Nothing}, needs_token=True, errors=[DatabaseUnavailableError])
async def logout() -> Response:
    """End this session."""
    context = get_context()
    token = await authenticate(context)
    async with context.pool.connection() as conn:
        await session.end_session(conn, token.session_id, reason="logout")
    return empty()


@blueprint.post("/logout/all")
@documented({204: Nothing}, needs_token=True, errors=[DatabaseUnavailableError])
async def logout_everywhere() -> Response:
    """End every session of this user."""
    context = get_context()
    token = await authenticate(context)
    async with context.pool.connection() as conn:
        await session.end_all_sessions(conn, token.user_id, reason="logout_all")
    return empty()


async def authenticate(context: Context) -> AccessToken:
    """Return who is calling, by the access token of the current request (RFC 6750 section 2.1).

    Raises:
        AccessTokenInvalidError: there is none, it is not good, or its session has ended.
    """
    headers = request.headers.getlist("Authorization")
    header = headers[0] if len(headers) == 1 else ""  # of two, nobody knows which one a proxy looked at
    if not header.lower().startswith(_SCHEME):
        raise AccessTokenInvalidError
    token = (await context.key_rings.current()).verify(header[len(_SCHEME) :].strip())
    async with context.pool.connection() as conn:
        if not await session.is_alive(conn, token.session_id):
            raise AccessTokenInvalidError
    return token


async def _rehash(context: Context, password: str) -> str | None:
    """Return a fresh hash of a password that was right; under load the next log-in will do."""
    try:
        return await context.lane.hash(password)
    except OverloadedError:
        return None


async def _answer_grant(context: Context, grant: Grant) -> Response:
    ring = await context.key_rings.current()
    access = ring.sign(AccessToken(grant.user_id, grant.session_id, grant.role))
    tokens: Tokens = {
        "token": access,
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": int(ACCESS_TOKEN_LIFE.total_seconds()),
        "refresh_token": grant.refresh_token,
        "refresh_expires_in": grant.refresh_expires_in,
    }
    return answer(tokens, headers={"Referrer-Policy": "no-referrer"})
