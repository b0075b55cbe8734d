"""Where one is logged in, and ending that one by one."""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import Field
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.audit.record import record
from regsvc.accounts.sessions.session import (
    MOST_SHOWN,
    Session,
    SessionNotFoundError,
    end_own_session,
    list_sessions,
)
from regsvc.errors import DatabaseUnavailableError
from regsvc.http.api.login import authenticate
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Id, Nothing, Timestamp, documented
from regsvc.http.request.actor import by_user
from regsvc.http.request.body import read_id
from regsvc.http.response.json_response import answer, empty, timestamp

log = structlog.get_logger()
blueprint = Blueprint("my_sessions", __name__)


class SessionShown(TypedDict):
    """A session: a log-in and what it grew into."""

    id: Id
    client: Annotated[str, Field(description="The software that logged in, in our own words.")]
    origin: Annotated[str, Field(description="The network prefix that it logged in from.")]
    created_at: Timestamp
    last_used_at: Annotated[Timestamp, Field(description="When its tokens were renewed last.")]
    expires_at: Annotated[Timestamp, Field(description="When it ends if they are not renewed.")]
    current: Annotated[bool, Field(description="It is the one that asks.")]


class SessionsShown(TypedDict):
    """One's sessions, those used last first."""

    sessions: Annotated[list[SessionShown], Field(description=f"At most {MOST_SHOWN}.")]


@blueprint.get("/sessions")
@documented({200: SessionsShown}, needs_token=True, errors=[DatabaseUnavailableError])
async def list_mine() -> Response:
    """List the sessions in which one is logged in."""
    context = get_context()
    token = await authenticate(context)
    async with context.pool.connection() as conn:
        found = await list_sessions(conn, token.user_id)
    shown: SessionsShown = {
        "sessions": [show_session(each, current=each.id == token.session_id) for each in found]
    }
    return answer(shown)


@blueprint.delete("/sessions/<session_id>")
@documented({204: Nothing}, needs_token=True, errors=[SessionNotFoundError, DatabaseUnavailableError])
async def end(session_id: str) -> Response:
    """End one of one's sessions, and with it its tokens."""
    context = get_context()
    token = await authenticate(context)
    wanted = read_id(session_id, SessionNotFoundError)
    async with context.pool.transaction() as conn:
        await end_own_session(conn, token.user_id, wanted, reason="ended_by_user")
        await record(conn, "session_ended", by_user(token), session=str(wanted))
    log.info("session ended", user=str(token.user_id), session=str(wanted))
    return empty()


def show_session(session: Session, *, current: bool) -> SessionShown:
    """Return a session in words of the API."""
    return {
        "id": str(session.id),
        "client": session.client,
        "origin": session.origin,
        "created_at": timestamp(session.created_at),
        "last_used_at": timestamp(session.last_used_at),
        "expires_at": timestamp(session.expires_at),
        "current": current,
    }
