"""The signing keys as administrators see them, and making another one."""

from __future__ import annotations

import structlog
from quart import Blueprint, Response

from regsvc.accounts.admin.key_actions import rotate_keys
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.admin_authentication import authenticate_admin
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer
from regsvc.schemas.signing_keys import KeysShown, show_keys
from regsvc.security.signing.key_store import list_keys

log = structlog.get_logger()
blueprint = Blueprint("admin_keys", __name__)


@blueprint.get("/admin/keys")
@documented({200: KeysShown}, needs_admin=True)
async def list_all() -> Response:
    """List the signing keys."""
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.connection() as conn:
        keys = await list_keys(conn)
    log.info("signing keys listed", actor=str(token.user_id), count=len(keys))
    return answer(show_keys(keys))


@blueprint.post("/admin/keys/rotate")
@documented({200: KeysShown}, needs_admin=True)
async def rotate() -> Response:
    """Make another key: it is published now, and signs in twelve minutes in place of those before it."""
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.transaction() as conn:
        kid = await rotate_keys(conn, context.secrets, get_caller().as_admin(token))
        keys = await list_keys(conn)
    log.info("signing key added", actor=str(token.user_id), kid=kid)
    return answer(show_keys(keys))
