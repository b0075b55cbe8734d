"""The signing keys as administrators see them, and making another one."""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import Field
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.audit.record import record
from regsvc.errors import DatabaseUnavailableError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Timestamp, documented
from regsvc.http.request.actor import by_admin
from regsvc.http.request.admin_authentication import authenticate_admin
from regsvc.http.response.errors import ForbiddenError
from regsvc.http.response.json_response import answer, timestamp
from regsvc.security.key_store import KeyState, StoredKey, list_keys, rotate_keys

log = structlog.get_logger()
blueprint = Blueprint("admin_keys", __name__)


class KeyShown(TypedDict):
    """A signing key, without either half."""

    kid: str
    state: Annotated[
        KeyState, Field(description="`announced` before it signs, `verifying` when it signs no more.")
    ]
    created_at: Timestamp
    signs_from: Timestamp
    retired_at: Annotated[Timestamp | None, Field(description="When it signs no more, if that is known.")]
    served_until: Annotated[
        Timestamp | None, Field(description="When the last token that it signed is dead.")
    ]


class KeysShown(TypedDict):
    """The signing keys, those that sign last first."""

    keys: list[KeyShown]


_ANY = [ForbiddenError, DatabaseUnavailableError]


@blueprint.get("/admin/keys")
@documented({200: KeysShown}, needs_token=True, errors=_ANY)
async def list_all() -> Response:
    """List the signing keys."""
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.connection() as conn:
        keys = await list_keys(conn)
    log.info("signing keys listed", actor=str(token.user_id), count=len(keys))
    return answer(show_keys(keys))


@blueprint.post("/admin/keys/rotate")
@documented({200: KeysShown}, needs_token=True, errors=_ANY)
async def rotate() -> Response:
    """Make another key: it is published now, and signs in twelve minutes in place of those before it."""
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.transaction() as conn:
        kid = await rotate_keys(conn, context.secrets)
        await record(conn, "signing_key_added", by_admin(token), kid=kid)
        keys = await list_keys(conn)
    log.info("signing key added", actor=str(token.user_id), kid=kid)
    return answer(show_keys(keys))


def show_keys(keys: list[StoredKey]) -> KeysShown:
    """Return signing keys in words of the API."""
    return {
        "keys": [
            {
                "kid": key.kid,
                "state": key.state,
                "created_at": timestamp(key.created_at),
                "signs_from": timestamp(key.signs_from),
                "retired_at": timestamp(key.retired_at),
                "served_until": timestamp(key.served_until),
            }
            for key in keys
        ]
    }
