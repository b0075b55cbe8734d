"""Logging in, staying logged in, logging out."""

from __future__ import annotations

from typing import Annotated, Literal

import structlog
from pydantic import Field, StringConstraints
from quart import Blueprint, Response, request
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.address import AddressError, parse_address
from regsvc.accounts.audit.record import record
from regsvc.accounts.limits.login_attempts import LoginTry, forgive_tries, withdraw_try
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions import refresh_token, session
from regsvc.accounts.sessions.refresh_token import Grant, Reuse
from regsvc.accounts.users import user
from regsvc.accounts.users.notices import add_notice
from regsvc.errors import DatabaseUnavailableError, InvalidCredentialsError, OverloadedError
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.actor import by_anyone, by_user
from regsvc.http.request.body import read_body
from regsvc.http.request.client import get_client_word, get_origin
from regsvc.http.request.rate_limits import begin_login
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.fields import Body, PasswordText, TokenText
from regsvc.schemas.formats import Nothing
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
    return await _answer_grant(context, await log_in(context, body.email, body.password))


async def log_in(context: Context, email: str, password: str) -> Grant:
    """Start a session for whoever knows the password of an address.

    Raises:
        InvalidCredentialsError: nobody does, or this is another one's.
        RateLimitedError: the client is too fast, or guesses.
        OverloadedError: too many passwords wait to be verified.
    """
    try:
        key = parse_address(email).key
    except AddressError:
        key = ""
    tried = await begin_login(key or email.casefold())
    try:
        started = await _log_in(context, key, password, tried)
    except OverloadedError:
        if tried is not None:
            async with context.pool.connection() as conn:
                await withdraw_try(conn, tried)
        raise
    log.info("logged in", user=str(started.user_id), session=str(started.session_id))
    return started


async def _log_in(
    context: Context, email_key: str, password: str, tried: LoginTry | None, *, again: bool = True
) -> Grant:
    async with context.pool.connection() as conn:
        credentials = await user.find_credentials(conn, email_key)
    verdict = await context.lane.verify(password, credentials.password_hash if credentials else None)
    if verdict.unreadable and credentials is not None:
        log.error("stored password hash not readable", user=str(credentials.user_id))
    if credentials is None or not verdict.ok:
        # The same statement for everybody; a user who is not there is a null in it.
        known = None if credentials is None else credentials.user_id
        async with context.pool.connection() as conn:
            await record(conn, "login_failed", by_anyone(), user_id=known)
        raise InvalidCredentialsError
    stored = credentials.password_hash
    fresh = await _rehash(context, password) if verdict.rehash_needed else None
    try:
        async with context.pool.transaction() as conn:
            if fresh is not None:
                await user.replace_password_hash(conn, credentials.user_id, old=stored, new=fresh)
            started = await refresh_token.start_session(
                conn,
                credentials.user_id,
                password_hash=fresh or stored,
                origin=get_origin(),
                client=get_client_word(),
            )
            if tried is not None:
                await forgive_tries(conn, tried)
            await record(conn, "logged_in", by_user(started.token()))
    except refresh_token.CredentialsChangedError:
        if not again:
            raise InvalidCredentialsError from None
        # Mostly by another log-in that replaced an old hash at this moment: look once more.
        return await _log_in(context, email_key, password, tried, again=False)
    return started


@blueprint.post("/token/refresh")
@documented(
    {200: Tokens},
    body=RefreshBody,
    errors=[
        refresh_token.RefreshTokenInvalidError,
        refresh_token.RefreshTokenReusedError,
        DatabaseUnavailableError,
        SealError,
    ],
)
async def refresh() -> Response:
    """Exchange a refresh token for a new pair."""
    context = get_context()
    body = await read_body(RefreshBody)
    async with context.pool.transaction() as conn:
        found = await refresh_token.refresh_session(conn, context.secrets, body.refresh_token)
        if isinstance(found, Reuse):
            by = by_anyone()
            await record(
                conn, "refresh_token_reused", by, user_id=found.user_id, session=str(found.session_id)
            )
            await add_notice(conn, found.user_id, "refresh_token_reused", by)
    if isinstance(found, Reuse):
        log.warning("refresh token reused", user=str(found.user_id), session=str(found.session_id))
        raise refresh_token.RefreshTokenReusedError
    return await _answer_grant(context, found)


@blueprint.post("/logout")
@documented({204: Nothing}, needs_token=True, errors=[DatabaseUnavailableError])
async def logout() -> Response:
    """End this session."""
    context = get_context()
    token = await authenticate(context)
    async with context.pool.transaction() as conn:
        await session.end_session(conn, token.session_id, reason="logout")
        await record(conn, "logged_out", by_user(token))
    return empty()


@blueprint.post("/logout/all")
@documented({204: Nothing}, needs_token=True, errors=[DatabaseUnavailableError])
async def logout_everywhere() -> Response:
    """End every session of this user."""
    context = get_context()
    token = await authenticate(context)
    async with context.pool.transaction() as conn:
        ended = await session.end_all_sessions(conn, token.user_id, reason="logout_all")
        await record(conn, "logged_out_everywhere", by_user(token), sessions=ended)
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
    token = await context.key_rings.verify(header[len(_SCHEME) :].strip())
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
