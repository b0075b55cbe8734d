"""Who may do an operator's work: administrators."""

from __future__ import annotations

from regsvc.http.context import Context
from regsvc.http.request.authentication import authenticate_user
from regsvc.http.response.errors import ForbiddenError
from regsvc.security.signing.access_token import AccessToken

ADMIN = "admin"


async def authenticate_admin(context: Context) -> AccessToken:
    """Return which administrator is calling: one by the access token, and by the database at this moment.

    Raises:
        AccessTokenInvalidError: there is no good access token.
        ForbiddenError: it is not an administrator's, or not any more.
    """
    token, user = await authenticate_user(context)
    if token.role == user.role == ADMIN:
        return token
    raise ForbiddenError
