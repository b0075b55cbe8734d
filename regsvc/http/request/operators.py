"""Who may do an operator's work over HTTP: administrators, and services with a token of the call's scope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from quart import request

from regsvc.accounts.audit.record import By
from regsvc.accounts.service_tokens.service_token import PREFIX, ServiceToken, find_token
from regsvc.http.context import Context
from regsvc.http.current import get_app
from regsvc.http.openapi.operation import description_of
from regsvc.http.request.admin_authentication import authenticate_admin
from regsvc.http.request.authentication import read_bearer
from regsvc.http.request.caller import get_caller
from regsvc.http.response.errors import ForbiddenError, InsufficientScopeError
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError


@dataclass(frozen=True)
class Operator:
    """An administrator or another service, for the current request.

    Args:
        kind: which of them.
        id: of the administrator or of the service token.
        session_id: of the administrator.
        token: of the administrator's session, which a proof belongs to.
    """

    kind: Literal["admin", "service_token"]
    id: UUID
    session_id: UUID | None = None
    token: AccessToken | None = None

    def by(self) -> By:
        """Return the audit actor."""
        return get_caller().act_as(self.kind, self.id, self.session_id)


async def authenticate_operator(context: Context) -> Operator:
    """Return who is calling: an administrator, or a service whose token has the scope that this call declares.

    Raises:
        AccessTokenInvalidError: there is no good token.
        ForbiddenError: the token is of a user who is no administrator, or no scope opens this call.
        InsufficientScopeError: the service's token lacks the scope.
    """
    if read_bearer().startswith(PREFIX):
        return Operator("service_token", (await authenticate_service(context)).id)
    token = await authenticate_admin(context)
    return Operator("admin", token.user_id, token.session_id, token)


async def authenticate_service(context: Context) -> ServiceToken:
    """Return the service token that is calling, if it has the scope that this call declares.

    Raises:
        AccessTokenInvalidError, ForbiddenError, InsufficientScopeError: as for `authenticate_operator`.
    """
    text = read_bearer()
    if not text.startswith(PREFIX):
        raise AccessTokenInvalidError
    async with context.pool.connection(alone=True) as conn:
        found = await find_token(conn, text)
    if found is None:
        raise AccessTokenInvalidError
    described = description_of(get_app().view_functions[request.endpoint or ""])
    if described is None or described.scope is None:
        raise ForbiddenError
    if described.scope not in found.scopes:
        raise InsufficientScopeError(described.scope)
    return found
