"""Where events go: the exchange of this service, and the webhooks that administrators add.

A webhook's secret is sealed with a key of this service. While it is rotated, the one before signs as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.users.notices import tell_admins
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.seals import seal, unseal
from regsvc.security.tokens import Secrets
from regsvc.webhooks.signature import mint_secret

MOST: Final = 50  # webhooks in use
OVERLAP: Final = timedelta(hours=24)
"""Time after a rotation for which the secret before signs as well."""
UNSEEN: Final = timedelta(days=7)
"""Time after which an exchange that no process is configured for gets no more events."""
SEAL = "webhook-secret"


class WebhookNotFoundError(RegsvcError):
    """There is no such webhook."""

    code = "webhook_not_found"


class TooManyWebhooksError(RegsvcError):
    """There are 50 webhooks already. Remove one first."""

    code = "too_many_webhooks"


@dataclass(frozen=True)
class Webhook:
    """A webhook as administrators see it.

    Args:
        id: of the webhook.
        name: what it is for.
        url: where events are posted.
        types: the types of events that it receives; None for all.
        created_at: when it was added.
        succeeded_at: when its receiver last took an event.
        failing_since: since when no attempt has succeeded.
        ended_at: when it ended.
        ended_reason: `removed`, or `gone`: its receiver answered 410.
    """

    id: UUID
    name: str
    url: str
    types: list[str] | None
    created_at: datetime
    succeeded_at: datetime | None
    failing_since: datetime | None
    ended_at: datetime | None
    ended_reason: str | None


@dataclass(frozen=True, repr=False)
class Receiver:
    """A webhook that events are sent to.

    Args:
        id: of the webhook.
        url: where events are posted.
        sealed: its secret.
        previous: the secret before, while it still signs.
    """

    id: UUID
    url: str
    sealed: bytes
    previous: bytes | None

    def open_secrets(self, secrets: Secrets) -> list[str]:
        """Return the secrets that sign, the newest first.

        Raises:
            UnsealError: they were sealed with another key.
        """
        sealed = [self.sealed, *([] if self.previous is None else [self.previous])]
        return [unseal(secrets, SEAL, each, bound=self.id.bytes).decode() for each in sealed]


_COLUMNS = "id, name, url, types, created_at, succeeded_at, failing_since, ended_at, ended_reason"


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


async def add_webhook(
    conn: Connection, secrets: Secrets, name: str, url: str, *, types: Sequence[str] | None, by: By
) -> tuple[UUID, str]:
    """Add a webhook in the caller's transaction, and return its id and its secret, which is shown once.

    Raises:
        TooManyWebhooksError: there are as many as there may be.
    """
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute("SELECT count(*) FROM event_sinks WHERE kind = 'webhook' AND ended_at IS NULL")
        if (await cursor.fetchone() or 0) >= MOST:
            raise TooManyWebhooksError
    webhook_id, secret = uuid4(), mint_secret()
    await conn.execute(
        """
        INSERT INTO event_sinks (id, kind, name, url, types, sealed, sealed_with)
        VALUES (%(id)s, 'webhook', %(name)s, %(url)s, %(types)s, %(sealed)s, %(with)s)
        """,
        {
            "id": webhook_id,
            "name": name,
            "url": url,
            "types": None if types is None else list(types),
            "sealed": seal(secrets, SEAL, secret.encode(), bound=webhook_id.bytes),
            "with": secrets.fingerprint,
        },
    )
    await record(conn, "webhook_added", by, webhook=str(webhook_id))
    await tell_admins(conn, "webhook_added", by)
    return webhook_id, secret


async def rotate_webhook(conn: Connection, secrets: Secrets, webhook_id: UUID, by: By) -> str:
    """Give a webhook a new secret and return it. The one before signs as well for `OVERLAP`.

    Raises:
        WebhookNotFoundError: there is none, or it has ended.
    """
    secret = mint_secret()
    cursor = await conn.execute(
        """
        UPDATE event_sinks
           SET previous = sealed, previous_with = sealed_with, previous_until = now() + %(overlap)s,
               sealed = %(sealed)s, sealed_with = %(with)s
         WHERE id = %(id)s AND kind = 'webhook' AND ended_at IS NULL
        """,
        {
            "id": webhook_id,
            "overlap": OVERLAP,
            "sealed": seal(secrets, SEAL, secret.encode(), bound=webhook_id.bytes),
            "with": secrets.fingerprint,
        },
    )
    if cursor.rowcount == 0:
        raise WebhookNotFoundError
    await record(conn, "webhook_rotated", by, webhook=str(webhook_id))
    await tell_admins(conn, "webhook_changed", by)
    return secret


async def end_webhook(conn: Connection, webhook_id: UUID, reason: str, by: By) -> None:
    """End a webhook in the caller's transaction. What is still due to it is cancelled by the janitor.

    Raises:
        WebhookNotFoundError: there is none, or it has ended.
    """
    cursor = await conn.execute(
        """
        UPDATE event_sinks SET ended_at = now(), ended_reason = %(reason)s
         WHERE id = %(id)s AND kind = 'webhook' AND ended_at IS NULL
        """,
        {"id": webhook_id, "reason": reason},
    )
    if cursor.rowcount == 0:
        raise WebhookNotFoundError
    await record(conn, "webhook_ended", by, webhook=str(webhook_id), reason=reason)
    await tell_admins(conn, "webhook_changed", by)


async def list_webhooks(conn: Connection) -> list[Webhook]:
    """Return the webhooks, the newest first, with those that have ended."""
    async with conn.cursor(row_factory=class_row(Webhook)) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM event_sinks WHERE kind = 'webhook' ORDER BY created_at DESC LIMIT 200"  # noqa: S608
        )
        return await cursor.fetchall()


async def get_webhook(conn: Connection, webhook_id: UUID) -> Webhook:
    """Return a webhook.

    Raises:
        WebhookNotFoundError: there is none.
    """
    async with conn.cursor(row_factory=class_row(Webhook)) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM event_sinks WHERE kind = 'webhook' AND id = %(id)s",  # noqa: S608 - a constant
            {"id": webhook_id},
        )
        found = await cursor.fetchone()
    if found is None:
        raise WebhookNotFoundError
    return found


async def list_receivers(conn: Connection) -> list[Receiver]:
    """Return the webhooks that events are sent to."""
    async with conn.cursor(row_factory=class_row(Receiver)) as cursor:
        await cursor.execute(
            """
            SELECT id, url, sealed, CASE WHEN previous_until > now() THEN previous END AS previous
              FROM event_sinks WHERE kind = 'webhook' AND ended_at IS NULL
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
                        FOR UPDATE SKIP LOCKED)
        """,
        {"id": webhook_id, "succeeded": succeeded},
    )
