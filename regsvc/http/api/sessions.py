"""Where one is logged in, and ending that one by one."""

from __future__ import annotations

import structlog
from quart import Blueprint, Response

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.accounts.sessions.session import (
    SessionNotFoundError,
    list_sessions,
)
from regsvc.flows.login import sessions as flow
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.authentication import authenticate
from regsvc.http.request.body import read_id
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.formats import Nothing
from regsvc.schemas.sessions import SessionsShown, show_session

log = structlog.get_logger()
blueprint = Blueprint("my_sessions", __name__)


@blueprint.get("/sessions")
@documented({200: SessionsShown}, needs_token=True)
async def list_mine() -> Response:
    """List the sessions of the user, up to 200, those used last first."""
    context = get_context()
    token = await authenticate(context)
    async with context.pool.connection() as conn:
        found = await list_sessions(conn, token.user_id)
    shown: SessionsShown = {
        "sessions": [show_session(each, current=each.id == token.session_id) for each in found]
    }
    return answer(shown)


@blueprint.delete("/sessions/<session_id>")
@documented(
    {204: Nothing},
    needs_token=True,
    errors=[SessionNotFoundError, RateLimitedError],
)
async def end(session_id: str) -> Response:
    """End one session of the user, and with it its tokens."""
    context = get_context()
    token = await authenticate(context)
    wanted = read_id(session_id, SessionNotFoundError)
    await flow.end_session(context, get_caller(), token, wanted)
    return empty()
