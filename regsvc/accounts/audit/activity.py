"""What happened to one's own account lately, from the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.audit.record import ActorKind
from regsvc.accounts.cursor import Page, cut_page, rows_to_read
from regsvc.postgres.connection import Connection


@dataclass(frozen=True)
class Activity:
    """An event of one's own account.

    Args:
        id: rises with every event.
        at: when it happened.
        event: a stable name, such as `logged_in` or `login_failed`.
        actor: kind of actor; `anonymous` has not proved who it is.
        origin: network prefix of the client; null if an administrator or operator acted.
        client: short name of the client's software, likewise.
    """

    id: int
    at: datetime
    event: str
    actor: ActorKind
    origin: str | None
    client: str | None


async def list_activity(conn: Connection, user_id: UUID, *, after: int | None, limit: int) -> Page[Activity]:
    """Return a page of a user's events, newest first.

    Args:
        conn: connection to read with.
        user_id: the user.
        after: id of the event before the page; None for the newest.
        limit: rows, at most `MAX_PAGE`.
    """
    older = "AND (at, id) < ((SELECT at FROM audit_events WHERE id = %(after)s), %(after)s)"
    async with conn.cursor(row_factory=class_row(Activity)) as cursor:
        await cursor.execute(
            f"""
            SELECT id, at, event, actor,
                   CASE WHEN actor IN ('user', 'anonymous') THEN origin END AS origin,
                   CASE WHEN actor IN ('user', 'anonymous') THEN client END AS client
              FROM audit_events
             WHERE user_id = %(user_id)s {older if after is not None else ""}
             ORDER BY at DESC, id DESC LIMIT %(limit)s
            """,  # noqa: S608 - a literal
            {"user_id": user_id, "after": after, "limit": rows_to_read(limit)},
        )
        found = await cursor.fetchall()
    return cut_page(found, limit, lambda event: str(event.id))
