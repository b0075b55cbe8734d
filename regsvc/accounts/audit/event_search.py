"""Search the audit log; `record` adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.audit.record import ACTORS, ActorKind
from regsvc.accounts.cursor import Page, cut_page, rows_to_read
from regsvc.postgres.connection import Connection


@dataclass(frozen=True)
class Event:
    """An event that matters for security.

    Args:
        id: rises with every event.
        at: when it happened.
        event: a stable word, such as `login_failed`.
        actor: who did it.
        actor_id: the user or administrator who did it.
        user: the user it is about.
        session: the session in which it was done.
        origin: the network prefix that it came from.
        client: a short word for the software that it came from.
        request_id: of the request or command.
        details: what else there is to know.
    """

    id: int
    at: datetime
    event: str
    actor: ActorKind
    actor_id: UUID | None
    user: UUID | None
    session: UUID | None
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


_CONDITIONS = {
    "event": "event BETWEEN %(event)s AND %(event)s",
    "user_id": "user_id = %(user_id)s",
    "actor_id": "actor_id = %(actor_id)s",
    "request_id": "request_id = %(request_id)s",
    "since": "at >= %(since)s",
    "until": "at < %(until)s",
}


async def list_events(conn: Connection, filters: Filters, *, after: int | None, limit: int) -> Page[Event]:
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
        *(["actor BETWEEN kind.actor AND kind.actor"] if filters.event or filters.actor else []),
        *(
            ["(at, id) < ((SELECT at FROM audit_events WHERE id = %(after)s), %(after)s)"]
            if after is not None
            else []
        ),
    ]
    # By equality, the planner may walk the index of times instead, past all events of other kinds. A range of one value
    # and the order of the wanted index leave it no choice.
    order = ("event DESC, " if filters.event else "") + (
        "actor DESC, " if filters.event or filters.actor else ""
    )
    kinds = [filters.actor] if filters.actor else list(ACTORS) if filters.event else [None]
    async with conn.cursor(row_factory=class_row(Event)) as cursor:
        await cursor.execute(
            f"""
            SELECT found.*
              FROM unnest(%(kinds)s::text[]) AS kind (actor)
             CROSS JOIN LATERAL (
                SELECT id, at, event, actor, actor_id, user_id AS "user", session_id AS session, origin, client,
                       request_id, details
                  FROM audit_events
                 WHERE {" AND ".join(conditions) or "true"}
                 ORDER BY {order}at DESC, id DESC
                 LIMIT %(limit)s) AS found
             ORDER BY found.at DESC, found.id DESC
             LIMIT %(limit)s
            """,  # noqa: S608 - constants of this module
            {
                **given,
                "kinds": kinds,
                "after": after,
                "limit": rows_to_read(limit),
            },
        )
        found = await cursor.fetchall()
    return cut_page(found, limit, lambda event: str(event.id))
