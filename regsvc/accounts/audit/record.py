"""The audit log: every event that matters for security, with who did it, from where, and in which request.

Rows are only ever added, in the transaction of what they tell of, so that neither is ever true alone (ASVS 5.0,
16.2.1 and 16.3). No address, token, code or password is in them: people are known by their ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias, get_args
from uuid import UUID

from psycopg.types.json import Jsonb

from regsvc.postgres.connection import Connection

ActorKind: TypeAlias = Literal["user", "admin", "operator", "anonymous", "service"]
ACTORS: tuple[ActorKind, ...] = get_args(ActorKind)

KEEP = timedelta(days=400)  # a year, and time to notice that it has passed


@dataclass(frozen=True)
class By:
    """Who does something, and from where.

    Args:
        actor: `user` and `admin` are people with an account; `operator` uses the command line; `anonymous` has not
            proved who they are; `service` is the program itself.
        actor_id: of the user or administrator, and of nobody else.
        session_id: that they act in.
        origin: the network prefix that they act from.
        client: a short word for their software.
        request_id: of the request, as in its answer and the log.
        network: what counts as one client, an IPv4 address or the /64 of an IPv6 address; the log never has it.
    """

    actor: ActorKind
    actor_id: UUID | None = None
    session_id: UUID | None = None
    origin: str | None = None
    client: str | None = None
    request_id: str | None = None
    network: str | None = None


ANYONE = By("anonymous")


async def record(
    conn: Connection, event: str, by: By, *, user_id: UUID | None = None, **details: str | int | bool | None
) -> None:
    """Add an event, in the caller's transaction.

    Args:
        conn: in a transaction.
        event: a stable snake_case word, such as `password_changed`.
        by: who did it.
        user_id: whom it is about; by default the user who did it.
        details: what else there is to know, nothing personal and nothing secret.
    """
    await conn.execute(
        """
        INSERT INTO audit_events (event, actor, actor_id, user_id, session_id, origin, client, request_id, details)
        VALUES (%(event)s, %(actor)s, %(actor_id)s, %(user_id)s, %(session_id)s, %(origin)s, %(client)s,
                %(request_id)s, %(details)s)
        """,
        {
            **vars(by),
            "event": event,
            "user_id": user_id or (by.actor_id if by.actor == "user" else None),
            "details": Jsonb(details),
        },
    )


async def forget_person(conn: Connection, user_id: UUID) -> None:
    """Take from the log, in the caller's transaction, where a user was and with what: the account is deleted.

    What they did to others as an administrator stays whole: it belongs to the history of those others.
    """
    await conn.execute("SELECT set_config('regsvc.audit_upkeep', 'on', true)")
    await conn.execute(
        "UPDATE audit_events SET origin = NULL, client = NULL, details = '{}' WHERE user_id = %(id)s",
        {"id": user_id},
    )
    await conn.execute("SELECT set_config('regsvc.audit_upkeep', 'off', true)")


async def purge_audit(conn: Connection, limit: int) -> int:
    """Delete events that are older than anybody keeps them, and return how many."""
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
