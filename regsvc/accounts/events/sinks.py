"""Where events go: the exchange of this service, and webhooks, as what sends to them knows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.postgres.connection import Connection
from regsvc.security.seals import unseal
from regsvc.security.tokens import Secrets

KEEP: Final = timedelta(days=30)
"""Time for which events, their deliveries and sinks that have ended are kept."""
UNSEEN: Final = timedelta(days=7)
"""Time after which an exchange that no process is configured for gets no more events."""
SEAL = "webhook-secret"


@dataclass(frozen=True, repr=False)
class Receiver:
    """A webhook that events are sent to.

    Args:
        id: of the webhook.
        url: where events are posted.
        sealed: its secret.
        previous: the secret before, while it still signs.
        replaying: whether a replay to it is under way.
    """

    id: UUID
    url: str
    sealed: bytes
    previous: bytes | None
    replaying: bool

    def open_secrets(self, secrets: Secrets) -> list[str]:
        """Return the secrets that sign, the newest first.

        Raises:
            UnsealError: they were sealed with another key.
        """
        sealed = [self.sealed, *([] if self.previous is None else [self.previous])]
        return [unseal(secrets, SEAL, each, bound=self.id.bytes).decode() for each in sealed]


async def note_exchange(conn: Connection, name: str) -> UUID:
    """Note that a process is configured for an exchange, and return the id of its sink."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            INSERT INTO event_sinks AS s (kind, name) VALUES ('exchange', %(name)s)
            ON CONFLICT (name) WHERE kind = 'exchange'
               DO UPDATE SET seen_at = now(), ended_at = NULL, ended_reason = NULL
            RETURNING id
            """,
            {"name": name},
        )
        found: UUID | None = await cursor.fetchone()
    assert found is not None  # noqa: S101 - RETURNING
    return found


async def find_exchange(conn: Connection, name: str) -> UUID | None:
    """Return the id of an exchange's sink."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            "SELECT id FROM event_sinks WHERE kind = 'exchange' AND name = %(name)s", {"name": name}
        )
        return await cursor.fetchone()


async def end_unseen(conn: Connection, limit: int) -> int:
    """Let exchanges that no process is configured for any more have no further events, and return the count."""
    cursor = await conn.execute(
        """
        UPDATE event_sinks SET ended_at = now(), ended_reason = 'unseen'
         WHERE id IN (SELECT id FROM event_sinks
                       WHERE kind = 'exchange' AND ended_at IS NULL AND seen_at < now() - %(unseen)s
                       ORDER BY id LIMIT %(limit)s)
        """,
        {"unseen": UNSEEN, "limit": limit},
    )
    return cursor.rowcount


async def purge_sinks(conn: Connection, limit: int) -> int:
    """Delete sinks that ended so long ago that none of their deliveries is kept, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM event_sinks
         WHERE id IN (SELECT s.id FROM event_sinks s
                       WHERE s.ended_at < now() - %(keep)s
                         AND NOT EXISTS (SELECT FROM event_deliveries d WHERE d.sink_id = s.id)
                       ORDER BY s.id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"keep": KEEP, "limit": limit},
    )
    return cursor.rowcount


async def list_receivers(conn: Connection) -> list[Receiver]:
    """Return the webhooks that events are sent to."""
    async with conn.cursor(row_factory=class_row(Receiver)) as cursor:
        await cursor.execute(
            """
            SELECT id, url, sealed, CASE WHEN previous_until > now() THEN previous END AS previous,
                   replay_at IS NOT NULL AS replaying
              FROM event_sinks WHERE kind = 'webhook' AND ended_at IS NULL AND disabled_at IS NULL
            """
        )
        return await cursor.fetchall()


async def note_attempt(conn: Connection, webhook_id: UUID, *, succeeded: bool) -> None:
    """Note how a webhook's receiver fares; a row that is held, or says so already, is left alone."""
    await conn.execute(
        """
        UPDATE event_sinks
           SET failing_since = CASE WHEN %(succeeded)s THEN NULL ELSE coalesce(failing_since, now()) END,
               succeeded_at = CASE WHEN %(succeeded)s THEN now() ELSE succeeded_at END
         WHERE id = (SELECT id FROM event_sinks
                      WHERE id = %(id)s
                        AND (failing_since IS NULL) <> %(succeeded)s
                         OR id = %(id)s AND %(succeeded)s
                        AND (succeeded_at IS NULL OR succeeded_at < now() - interval '1 minute')
                        FOR NO KEY UPDATE SKIP LOCKED)
        """,
        {"id": webhook_id, "succeeded": succeeded},
    )
