"""Audit events as the API shows them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, StringConstraints

from regsvc.accounts.audit.event_search import Event
from regsvc.accounts.audit.record import ActorKind
from regsvc.schemas.fields import PAGE, Body, Limit, NumberCursor
from regsvc.schemas.rows import describe_page, describe_row

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
    cursor: NumberCursor | None = None
    limit: Limit = PAGE


EventShown = describe_row(Event, "EventShown")
EventPage = describe_page("EventPage", "events", EventShown)
