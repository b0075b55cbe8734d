"""Audit events as the API shows them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.audit import event_search
from regsvc.accounts.audit.event_search import Event
from regsvc.accounts.audit.record import ActorKind
from regsvc.schemas.fields import Body
from regsvc.schemas.formats import Id, Timestamp, timestamp

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


def show_event(event: Event) -> EventShown:
    """Return an audit event as the API shows it."""
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
