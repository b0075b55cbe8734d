"""The audit log as administrators see it."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import structlog
from pydantic import AwareDatetime, Field, StringConstraints
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.audit import event_search
from regsvc.accounts.audit.event_search import Event, Filters
from regsvc.accounts.audit.record import ActorKind
from regsvc.errors import DatabaseUnavailableError, ValidationFailedError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Id, Parameter, Timestamp, documented
from regsvc.http.request.admin_authentication import authenticate_admin
from regsvc.http.request.body import Body, read_query
from regsvc.http.response.errors import ForbiddenError
from regsvc.http.response.json_response import answer, timestamp

log = structlog.get_logger()
blueprint = Blueprint("admin_audit", __name__)

PAGE = 50  # events, if nobody says how many
_LARGEST = 2**63 - 1  # that a bigint can be

_Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")]


class AuditQuery(Body):
    """Which events to list."""

    event: _Word | None = None
    user: UUID | None = None
    actor: ActorKind | None = None
    actor_id: UUID | None = None
    request_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")] | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    cursor: Annotated[int, Field(ge=1, le=_LARGEST)] | None = None
    limit: Annotated[int, Field(ge=1, le=event_search.MAX_PAGE)] = PAGE


class EventShown(TypedDict):
    """What happened that matters for security."""

    id: int
    at: Timestamp
    event: str
    actor: Annotated[ActorKind, Field(description="Who did it.")]
    actor_id: Annotated[Id | None, Field(description="Which user or administrator did.")]
    user: Annotated[Id | None, Field(description="Whom it is about.")]
    session: Annotated[Id | None, Field(description="In which it was done.")]
    origin: Annotated[str | None, Field(description="The network prefix that it came from.")]
    client: str | None
    request_id: str | None
    details: dict[str, Any]


class EventPage(TypedDict):
    """Some events, the newest first."""

    events: list[EventShown]
    next_cursor: Annotated[str | None, Field(description="The `cursor` of the next page, if there is one.")]


_FILTERS = [
    Parameter("event", "Its word, such as `login_failed`.", where="query"),
    Parameter("user", "The id of whom it is about.", where="query"),
    Parameter("actor", "`user`, `admin`, `operator`, `anonymous` or `service`.", where="query"),
    Parameter("actor_id", "The id of the user or administrator who did it.", where="query"),
    Parameter("request_id", "Of the request or command that did it.", where="query"),
    Parameter("since", "RFC 3339: not before this.", where="query"),
    Parameter("until", "RFC 3339: before this.", where="query"),
    Parameter("cursor", "The `next_cursor` of the page before.", where="query"),
    Parameter(
        "limit",
        f"How many, 1 to {event_search.MAX_PAGE}; {PAGE} if not given.",
        where="query",
        whole_number=True,
    ),
]


@blueprint.get("/admin/audit")
@documented(
    {200: EventPage},
    parameters=_FILTERS,
    needs_token=True,
    errors=[ValidationFailedError, ForbiddenError, DatabaseUnavailableError],
)
async def list_events() -> Response:
    """List events of the audit log, the newest first."""
    context = get_context()
    token = await authenticate_admin(context)
    query = read_query(AuditQuery)
    filters = Filters(
        query.event, query.user, query.actor, query.actor_id, query.request_id, query.since, query.until
    )
    async with context.pool.connection() as conn:
        page = await event_search.list_events(conn, filters, after=query.cursor, limit=query.limit)
    log.info("audit events listed", actor=str(token.user_id), count=len(page.events))
    shown: EventPage = {
        "events": [_show_event(event) for event in page.events],
        "next_cursor": None if page.next is None else str(page.next),
    }
    return answer(shown)


def _show_event(event: Event) -> EventShown:
    return {
        "id": event.id,
        "at": timestamp(event.at),
        "event": event.event,
        "actor": event.actor,
        "actor_id": str(event.actor_id) if event.actor_id else None,
        "user": str(event.user_id) if event.user_id else None,
        "session": str(event.session_id) if event.session_id else None,
        "origin": event.origin,
        "client": event.client,
        "request_id": event.request_id,
        "details": event.details,
    }
