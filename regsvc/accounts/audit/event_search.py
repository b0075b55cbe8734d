"""Search the audit log; `record` adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.audit.record import ACTORS, ActorKind
from regsvc.postgres.connection import Connection

MAX_PAGE = 200


@dataclass(frozen=True)
class Event:
    """What happened, by whom, to whom, and from where; see `By` and `record`."""

    id: int
    at: datetime
    event: str
    actor: ActorKind
    actor_id: UUID | None
    user_id: UUID | None
    session_id: UUID | None
    origin: str | None
    client: str | None
    request_id: str | None
    details: dict[str, Any]


@dataclass(frozen=True)
class Filters:
    """Which events to list: those that have all that is given.

    Args:
        event: its word.
        user_id: whom it is about.
        actor: who did it, as a kind.
        actor_id: which user or administrator did it.
        request_id: in which request or command.
        since: not before this.
        until: before this.
    """

    event: str | None = None
    user_id: UUID | None = None
    actor: ActorKind | None = None
    actor_id: UUID | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Page:
    """Some events, the newest first, and the id of the last if there are more."""

    events: Sequence[Event]
    next: int | None


_CONDITIONS = {
    "event": "event = %(event)s",
    "user_id": "user_id = %(user_id)s",
    "actor_id": "actor_id = %(actor_id)s",
    "request_id": "request_id = %(request_id)s",
    "since": "at >= %(since)s",
    "until": "at < %(until)s",
}


async def list_events(conn: Connection, filters: Filters, *, after: int | None, limit: int) -> Page:
    """Return a page of events, the newest first.

    A list by event reads the newest of each kind of actor and merges them: one index serves both filters, alone and
    together.

    Args:
        conn: reads.
        filters: which events.
        after: the id of the event that the page begins behind; None for the newest.
        limit: how many, `MAX_PAGE` at most.
    """
    given = {name: value for name, value in vars(filters).items() if value is not None}
    conditions = [
        *(_CONDITIONS[name] for name in given if name in _CONDITIONS),
        *(["actor = kind.actor"] if filters.event or filters.actor else []),
        *(
            ["(at, id) < ((SELECT at FROM audit_events WHERE id = %(after)s), %(after)s)"]
            if after is not None
            else []
        ),
    ]
    kinds = [filters.actor] if filters.actor else list(ACTORS) if filters.event else [None]
    async with conn.cursor(row_factory=class_row(Event)) as cursor:
        await cursor.execute(
            f"""
            SELECT found.*
              FROM unnest(%(kinds)s::text[]) AS kind (actor)
             CROSS JOIN LATERAL (
                SELECT id, at, event, actor, actor_id, user_id, session_id, origin, client, request_id, details
                  FROM audit_events
                 WHERE {" AND ".join(conditions) or "true"}
                 ORDER BY at DESC, id DESC
                 LIMIT %(limit)s) AS found
             ORDER BY found.at DESC, found.id DESC
             LIMIT %(limit)s
            """,  # noqa: S608 - constants of this module
            {
                **given,
                "kinds": kinds,
                "after": after,
                "limit": min(limit, MAX_PAGE) + 1,
            },
        )
        found = await cursor.fetchall()
    events = found[: min(limit, MAX_PAGE)]
    return Page(events, events[-1].id if len(found) > len(events) else None)
