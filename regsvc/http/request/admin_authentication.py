"""Who may do an operator's work: administrators."""

from __future__ import annotations

from regsvc.accounts.users.user import get_user
from regsvc.http.context import Context
from regsvc.http.request.authentication import authenticate
from regsvc.http.response.errors import ForbiddenError
from regsvc.security.keys import AccessToken

ADMIN = "admin"


async def authenticate_admin(context: Context) -> AccessToken:
    """Return which administrator is calling: one by the access token, and by the database at this moment.

    Raises:
        AccessTokenInvalidError: there is no good access token.
        ForbiddenError: it is not an administrator's, or not any more.
    """
    token = await authenticate(context)
    if token.role == ADMIN:
        async with context.pool.connection() as conn:
            user = await get_user(conn, token.user_id)
        if user is not None and user.role == ADMIN:
            return token
    raise ForbiddenError
