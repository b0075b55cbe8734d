"""Users as administrators see them, and what they do about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

import structlog
from pydantic import BeforeValidator, Field
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.admin import user_actions, user_search
from regsvc.accounts.admin.cursor import Position
from regsvc.accounts.admin.user_search import Filters, Person
from regsvc.accounts.audit.record import By
from regsvc.accounts.sessions.session import list_sessions
from regsvc.accounts.users.user import LastAdminError, UserNotFoundError
from regsvc.errors import DatabaseUnavailableError, ValidationFailedError
from regsvc.http.api.sessions import SessionsShown, show_session
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Id, Nothing, Parameter, Timestamp, documented
from regsvc.http.request.actor import by_admin
from regsvc.http.request.admin_authentication import authenticate_admin
from regsvc.http.request.body import Body, SearchText, read_id, read_query
from regsvc.http.response.errors import ForbiddenError
from regsvc.http.response.json_response import answer, empty, timestamp
from regsvc.postgres.connection import Connection

log = structlog.get_logger()
blueprint = Blueprint("admin_users", __name__)

PAGE = 50  # users, if nobody says how many


class UserQuery(Body):
    """Which users to list."""

    search: SearchText | None = None
    role: user_search.Role | None = None
    state: user_search.Standing | None = None
    cursor: Annotated[Position, BeforeValidator(Position.decode)] | None = None
    limit: Annotated[int, Field(ge=1, le=user_search.MAX_PAGE)] = PAGE


class UserShown(TypedDict):
    """A user, and how they stand."""

    id: Id
    email: str
    name: str
    locale: str
    role: user_search.Role
    state: Annotated[user_search.Standing, Field(description="Whether they may log in.")]
    created_at: Timestamp
    disabled_at: Timestamp | None
    sessions: Annotated[int, Field(description="In how many they are logged in.")]
    last_used_at: Annotated[Timestamp | None, Field(description="When the last of those was used.")]


class UserPage(TypedDict):
    """Some users, the newest first."""

    users: list[UserShown]
    next_cursor: Annotated[str | None, Field(description="The `cursor` of the next page, if there is one.")]


_FILTERS = [
    Parameter("search", "What the address or the name begins with.", where="query"),
    Parameter("role", "`user` or `admin`.", where="query"),
    Parameter("state", "`active` or `disabled`.", where="query"),
    Parameter("cursor", "The `next_cursor` of the page before.", where="query"),
    Parameter(
        "limit",
        f"How many, 1 to {user_search.MAX_PAGE}; {PAGE} if not given.",
        where="query",
        whole_number=True,
    ),
]
_ANY = [ForbiddenError, DatabaseUnavailableError]
_ONE = [UserNotFoundError, *_ANY]
_NOT_ANYONE = [user_actions.OwnAccountError, LastAdminError, *_ONE]


@blueprint.get("/users")
@blueprint.get("/admin/users")
@documented({200: UserPage}, parameters=_FILTERS, needs_token=True, errors=[ValidationFailedError, *_ANY])
async def list_users() -> Response:
    """List users, the newest first."""
    context = get_context()
    token = await authenticate_admin(context)
    query = read_query(UserQuery)
    filters = Filters(query.search, query.role, query.state)
    async with context.pool.connection() as conn:
        page = await user_search.list_people(conn, filters, after=query.cursor, limit=query.limit)
    log.info("users listed", actor=str(token.user_id), count=len(page.people))
    return answer(show_page(page))


@blueprint.get("/admin/users/<user_id>")
@documented({200: UserShown}, needs_token=True, errors=_ONE)
async def show(user_id: str) -> Response:
    """Show a user."""
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.connection() as conn:
        person = await user_search.get_person(conn, read_id(user_id, UserNotFoundError))
    log.info("user shown", actor=str(token.user_id), user=user_id)
    return answer(show_user(person))


@blueprint.get("/admin/users/<user_id>/sessions")
@documented({200: SessionsShown}, needs_token=True, errors=_ONE)
async def sessions(user_id: str) -> Response:
    """List the sessions in which a user is logged in."""
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.connection() as conn:
        person = await user_search.get_person(conn, read_id(user_id, UserNotFoundError))
        found = await list_sessions(conn, person.id)
    log.info("sessions listed", actor=str(token.user_id), user=user_id)
    shown: SessionsShown = {
        "sessions": [show_session(each, current=each.id == token.session_id) for each in found]
    }
    return answer(shown)


@blueprint.post("/admin/users/<user_id>/disable")
@documented({200: UserShown}, needs_token=True, errors=_NOT_ANYONE)
async def disable(user_id: str) -> Response:
    """Keep a user from logging in, and end their sessions."""
    return await _act_on(user_id, user_actions.disable_user, "user disabled")


@blueprint.post("/admin/users/<user_id>/enable")
@documented({200: UserShown}, needs_token=True, errors=_ONE)
async def enable(user_id: str) -> Response:
    """Let a user log in again."""
    return await _act_on(user_id, user_actions.enable_user, "user enabled")


@blueprint.post("/admin/users/<user_id>/end-sessions")
@documented({200: UserShown}, needs_token=True, errors=_ONE)
async def end_sessions(user_id: str) -> Response:
    """End all sessions of a user."""
    return await _act_on(user_id, user_actions.end_user_sessions, "sessions ended")


@blueprint.delete("/admin/users/<user_id>")
@documented({204: Nothing}, needs_token=True, errors=_NOT_ANYONE)
async def delete(user_id: str) -> Response:
    """Delete a user's account and erase the person, as they could themselves."""
    context = get_context()
    token = await authenticate_admin(context)
    wanted = read_id(user_id, UserNotFoundError)
    async with context.pool.transaction() as conn:
        await user_actions.delete_user(conn, context.secrets, wanted, by_admin(token))
    log.info("account deleted", actor=str(token.user_id), user=str(wanted))
    return empty()


async def _act_on(
    user_id: str, act: Callable[[Connection, UUID, By], Awaitable[object]], event: str
) -> Response:
    context = get_context()
    token = await authenticate_admin(context)
    wanted = read_id(user_id, UserNotFoundError)
    async with context.pool.transaction() as conn:
        await act(conn, wanted, by_admin(token))
        person = await user_search.get_person(conn, wanted)
    log.info(event, actor=str(token.user_id), user=str(wanted))
    return answer(show_user(person))


def show_page(page: user_search.Page) -> UserPage:
    """Return a page of users in words of the API."""
    return {
        "users": [show_user(person) for person in page.people],
        "next_cursor": page.next.encode() if page.next else None,
    }


def show_user(person: Person) -> UserShown:
    """Return a user in words of the API."""
    return {
        "id": str(person.id),
        "email": person.email,
        "name": person.name,
        "locale": person.locale,
        "role": person.role,
        "state": person.standing,
        "created_at": timestamp(person.created_at),
        "disabled_at": timestamp(person.disabled_at),
        "sessions": person.sessions,
        "last_used_at": timestamp(person.last_used_at),
    }
