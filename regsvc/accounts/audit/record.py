"""The audit log: every security event with its actor, origin and request.

Rows are only ever added, in the transaction of the event, so neither exists without the other (ASVS 5.0, 16.2.1 and
16.3). They hold no address, token, code or password: people are identified by their ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias, get_args
from uuid import UUID

from psycopg.types.json import Jsonb

from regsvc.postgres.connection import Connection

ActorKind: TypeAlias = Literal["user", "admin", "operator", "anonymous", "service", "service_token"]
ACTORS: tuple[ActorKind, ...] = get_args(ActorKind)

KEEP = timedelta(days=400)  # a year, and time to notice that it has passed


@dataclass(frozen=True)
class By:
    """An audit actor and their origin.

    Args:
        actor: `user` and `admin` have an account; `operator` uses the command line; `anonymous` is not
            authenticated; `service` is the program itself; `service_token` is another service.
        actor_id: id of the user, administrator or service token; None for other actors.
        session_id: session of the actor.
        origin: network prefix of the client.
        client: short name of the client's software.
        request_id: id of the request, as in its response and the log.
        network: the client's IPv4 address or the /64 of its IPv6 address; never logged.
    """

    actor: ActorKind
    actor_id: UUID | None = None
    session_id: UUID | None = None
    origin: str | None = None
    client: str | None = None
    request_id: str | None = None
    network: str | None = None


ANYONE = By("anonymous")


# Adds an event as part of another statement, once for each row of `{0}`; its values come from `event_values`.
RECORDED = """
    INSERT INTO audit_events (event, actor, actor_id, user_id, session_id, origin, client, request_id, details)
    SELECT %(event)s, %(actor)s, %(actor_id)s, %(event_user_id)s, %(session_id)s, %(origin)s, %(client)s,
           %(request_id)s, %(details)s
      FROM {0}
"""


def event_values(
    event: str, by: By, *, user_id: UUID | None = None, **details: str | int | bool | None
) -> dict[str, object]:
    """Return the values of an event, as `record` takes them, for a statement with `RECORDED`."""
    subject = user_id or (by.actor_id if by.actor == "user" else None)
    return {**vars(by), "event": event, "event_user_id": subject, "details": Jsonb(details)}


async def record(
    conn: Connection, event: str, by: By, *, user_id: UUID | None = None, **details: str | int | bool | None
) -> None:
    """Add an event in the caller's transaction.

    Args:
        conn: in a transaction.
        event: a stable snake_case name, such as `password_changed`.
        by: the audit actor.
        user_id: the user concerned; by default the acting user.
        details: further details, neither personal nor secret.
    """
    await conn.execute(
        RECORDED.format("(SELECT) AS one"), event_values(event, by, user_id=user_id, **details)
    )


async def forget_person(conn: Connection, user_id: UUID) -> None:
    """Remove the origins and clients of a deleted user's acts from the log, in the caller's transaction.

    Acts on other users as an administrator stay whole: they belong to the history of those users.
    """
    await conn.execute("SELECT set_config('regsvc.audit_upkeep', 'on', true)")
    await conn.execute(
        "UPDATE audit_events SET origin = NULL, client = NULL, details = '{}' WHERE user_id = %(id)s",
        {"id": user_id},
    )
    await conn.execute("SELECT set_config('regsvc.audit_upkeep', 'off', true)")


async def purge_audit(conn: Connection, limit: int) -> int:
    """Delete events past retention, and return the count."""
    async with conn.transaction():
        await conn.execute("SELECT set_config('regsvc.audit_upkeep', 'on', true)")
        cursor = await conn.execute(
            """
            DELETE FROM audit_events
             WHERE id IN (SELECT id FROM audit_events WHERE at <= now() - %(keep)s
                           ORDER BY at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
            """,
            {"keep": KEEP, "limit": limit},
        )
    return cursor.rowcount
