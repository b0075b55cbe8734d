"""Users as administrators see them, and what they do about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog
from quart import Blueprint, Response

from regsvc.accounts.admin import user_actions, user_search
from regsvc.accounts.admin.user_search import Filters
from regsvc.accounts.audit.record import By
from regsvc.accounts.sessions.session import list_sessions
from regsvc.accounts.users.user import LastAdminError, UserNotFoundError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented, paged
from regsvc.http.request.body import read_id, read_query
from regsvc.http.request.operators import authenticate_operator
from regsvc.http.response.json_response import answer, empty
from regsvc.postgres.connection import Connection
from regsvc.schemas.formats import Nothing
from regsvc.schemas.rows import show_page, show_row
from regsvc.schemas.sessions import SessionsShown, show_session
from regsvc.schemas.users import UserPage, UserQuery, UserShown

log = structlog.get_logger()
blueprint = Blueprint("admin_users", __name__)


_FILTERS = [
    Parameter("search", "What the address or the name begins with.", where="query"),
    Parameter("role", "`user` or `admin`.", where="query"),
    Parameter("state", "`active` or `disabled`.", where="query"),
    *paged(),
]
_ONE = [UserNotFoundError]
_NOT_ANYONE = [user_actions.OwnAccountError, LastAdminError, *_ONE]


@blueprint.get("/users")
@blueprint.get("/admin/users")
@documented({200: UserPage}, parameters=_FILTERS, query=UserQuery, needs_admin=True, scope="users:read")
async def list_users() -> Response:
    """List users, the newest first. `/api/v1/users` is the same call."""
    context = get_context()
    operator = await authenticate_operator(context)
    query = read_query(UserQuery)
    filters = Filters(query.search, query.role, query.state)
    async with context.pool.connection() as conn:
        page = await user_search.list_people(conn, filters, after=query.cursor, limit=query.limit)
    log.info("users listed", actor=str(operator.id), count=len(page.rows))
    return answer(show_page(page, "users"))


@blueprint.get("/admin/users/<user_id>")
@documented({200: UserShown}, needs_admin=True, scope="users:read", errors=_ONE)
async def show(user_id: str) -> Response:
    """Show a user."""
    context = get_context()
    operator = await authenticate_operator(context)
    async with context.pool.connection() as conn:
        person = await user_search.get_person(conn, read_id(user_id, UserNotFoundError))
    log.info("user shown", actor=str(operator.id), user=user_id)
    return answer(show_row(person))


@blueprint.get("/admin/users/<user_id>/sessions")
@documented({200: SessionsShown}, needs_admin=True, scope="users:read", errors=_ONE)
async def sessions(user_id: str) -> Response:
    """List the sessions in which a user is logged in."""
    context = get_context()
    operator = await authenticate_operator(context)
    async with context.pool.connection() as conn:
        person = await user_search.get_person(conn, read_id(user_id, UserNotFoundError))
        found = await list_sessions(conn, person.id)
    log.info("sessions listed", actor=str(operator.id), user=user_id)
    shown: SessionsShown = {
        "sessions": [show_session(each, current=each.id == operator.session_id) for each in found]
    }
    return answer(shown)


@blueprint.post("/admin/users/<user_id>/disable")
@documented({200: UserShown}, needs_admin=True, scope="users:write", errors=_NOT_ANYONE)
async def disable(user_id: str) -> Response:
    """Keep a user from logging in, and end their sessions."""
    return await _act_on(user_id, user_actions.disable_user, "user disabled")


@blueprint.post("/admin/users/<user_id>/enable")
@documented({200: UserShown}, needs_admin=True, scope="users:write", errors=_ONE)
async def enable(user_id: str) -> Response:
    """Let a user log in again."""
    return await _act_on(user_id, user_actions.enable_user, "user enabled")


@blueprint.post("/admin/users/<user_id>/end-sessions")
@documented({200: UserShown}, needs_admin=True, scope="users:write", errors=_ONE)
async def end_sessions(user_id: str) -> Response:
    """End all sessions of a user."""
    return await _act_on(user_id, user_actions.end_user_sessions, "sessions ended")


@blueprint.delete("/admin/users/<user_id>")
@documented({204: Nothing}, needs_admin=True, scope="users:write", errors=_NOT_ANYONE)
async def delete(user_id: str) -> Response:
    """Delete a user's account and erase the person, as `DELETE /api/v1/me` does."""
    context = get_context()
    operator = await authenticate_operator(context)
    wanted = read_id(user_id, UserNotFoundError)
    async with context.pool.transaction() as conn:
        await user_actions.delete_user(conn, context.secrets, wanted, operator.by())
    log.info("account deleted", actor=str(operator.id), user=str(wanted))
    return empty()


async def _act_on(
    user_id: str, act: Callable[[Connection, UUID, By], Awaitable[object]], event: str
) -> Response:
    context = get_context()
    operator = await authenticate_operator(context)
    wanted = read_id(user_id, UserNotFoundError)
    async with context.pool.transaction() as conn:
        await act(conn, wanted, operator.by())
        person = await user_search.get_person(conn, wanted)
    log.info(event, actor=str(operator.id), user=str(wanted))
    return answer(show_row(person))
