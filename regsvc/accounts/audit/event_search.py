"""Search of the audit log; `record` adds to it."""

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
    """A security event.

    Args:
        id: rises with every event.
        at: when it happened.
        event: a stable name, such as `login_failed`.
        actor: kind of actor.
        actor_id: the user or administrator who acted.
        user: the user concerned.
        session: the actor's session.
        origin: network prefix of the client.
        client: short name of the client's software.
        request_id: id of the request or command.
        details: further details.
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
    """Filters of the event list; all given ones must match.

    Args:
        event: name of the event.
        user_id: the user concerned.
        actor: kind of actor.
        actor_id: the user or administrator who acted.
        request_id: id of the request or command.
        since: earliest time, inclusive.
        until: latest time, exclusive.
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
    """Return a page of events, newest first.

    A list by event merges the newest of each kind of actor: one index serves both filters, alone and together.

    Args:
        conn: connection to read with.
        filters: filters of the list.
        after: id of the event before the page; None for the newest.
        limit: rows, at most `MAX_PAGE`.
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
