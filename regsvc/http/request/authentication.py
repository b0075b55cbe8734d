"""Who is calling, by the access token."""

from __future__ import annotations

from quart import request

from regsvc.accounts.users.user import User
from regsvc.http.context import Context
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError

_SCHEME = "bearer "


async def authenticate(context: Context) -> AccessToken:
    """Return who is calling, by the access token of the current request (RFC 6750 section 2.1).

    Raises:
        AccessTokenInvalidError: there is none, it is not good, or its session has ended.
    """
    return (await authenticate_user(context))[0]


async def authenticate_user(context: Context) -> tuple[AccessToken, User]:
    """Return who is calling, with their profile at this moment.

    Raises:
        AccessTokenInvalidError: as for `authenticate`.
    """
    token = await context.key_rings.verify(read_bearer())
    user = await context.acting_users.find(token.session_id)
    if user is None or user.id != token.user_id:
        raise AccessTokenInvalidError
    return token, user


def read_bearer() -> str:
    """Return the token that the current request brings (RFC 6750 section 2.1).

    Raises:
        AccessTokenInvalidError: it brings none.
    """
    headers = request.headers.getlist("Authorization")
    header = headers[0] if len(headers) == 1 else ""  # of two, a proxy may have looked at the other one
    if not header.lower().startswith(_SCHEME):
        raise AccessTokenInvalidError
    return header[len(_SCHEME) :].strip()
