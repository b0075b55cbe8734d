"""Webhooks, as administrators add, change, end and list them.

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
from regsvc.accounts.events.sinks import SEAL
from regsvc.accounts.users.notices import tell_admins
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.seals import seal
from regsvc.security.tokens import Secrets
from regsvc.webhooks.signature import mint_secret

MOST: Final = 50  # webhooks that have not ended
COUNTED: Final = 1000  # deliveries of one webhook that are counted, at most
FAILING: Final = timedelta(days=5)
"""Time without a success after which a webhook is disabled when the next delivery is given up."""
OVERLAP: Final = timedelta(hours=24)
"""Time after a rotation for which the secret before signs as well."""


class WebhookNotFoundError(RegsvcError):
    """There is no such webhook."""

    code = "webhook_not_found"


class TooManyWebhooksError(RegsvcError):
    """There are 50 webhooks already. Remove one first."""

    code = "too_many_webhooks"


class WebhookNotInUseError(RegsvcError):
    """This webhook is disabled or has ended."""

    code = "webhook_not_in_use"


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
        waiting: number of deliveries that wait for an attempt, counted up to 1,000.
        given_up: number of deliveries that were given up, counted up to 1,000.
        replay_at: up to which time a replay under way has got; None without one.
        disabled_at: when it was disabled.
        disabled_reason: `administrator`, or `failing`: nothing was delivered for five days.
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
    waiting: int
    given_up: int
    replay_at: datetime | None
    disabled_at: datetime | None
    disabled_reason: str | None
    ended_at: datetime | None
    ended_reason: str | None

    def check_used(self) -> None:
        """Make sure that events are sent to it.

        Raises:
            WebhookNotInUseError: it is disabled, or has ended.
        """
        if self.disabled_at is not None or self.ended_at is not None:
            raise WebhookNotInUseError


_SELECT = f"""
    SELECT s.id, s.name, s.url, s.types, s.created_at, s.succeeded_at, s.failing_since, s.replay_at,
           s.disabled_at, s.disabled_reason, s.ended_at, s.ended_reason,
           (SELECT count(*) FROM (SELECT FROM event_deliveries
                                   WHERE sink_id = s.id AND state IN ('queued', 'sending', 'delayed')
                                   LIMIT {COUNTED}) AS d) AS waiting,
           (SELECT count(*) FROM (SELECT FROM event_deliveries WHERE sink_id = s.id AND state = 'dead'
                                   LIMIT {COUNTED}) AS d) AS given_up
      FROM event_sinks s
     WHERE s.kind = 'webhook'
"""  # noqa: S608 - a number


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
    await tell_admins(conn, "webhook_stopped" if reason == "gone" else "webhook_changed", by)


async def remove_webhook(conn: Connection, webhook_id: UUID, by: By) -> None:
    """End a webhook by hand; see `end_webhook`."""
    await end_webhook(conn, webhook_id, "removed", by)


async def disable_webhook(conn: Connection, webhook_id: UUID, by: By) -> None:
    """Disable a webhook in the caller's transaction: nothing is sent to it, and the janitor cancels what is due.

    Events of that time are kept like others, so that a replay after `enable_webhook` sends them.

    One that is disabled stays so.

    Raises:
        WebhookNotFoundError: there is none.
        WebhookNotInUseError: it has ended.
    """
    cursor = await conn.execute(
        """
        UPDATE event_sinks
           SET disabled_at = now(), disabled_reason = 'administrator', replay_at = NULL, replay_after = NULL
         WHERE id = %(id)s AND kind = 'webhook' AND ended_at IS NULL AND disabled_at IS NULL
        """,
        {"id": webhook_id},
    )
    if cursor.rowcount == 0:
        await _check_not_ended(conn, webhook_id)
        return
    await record(conn, "webhook_disabled", by, webhook=str(webhook_id), reason="administrator")
    await tell_admins(conn, "webhook_changed", by)


async def disable_failing(conn: Connection, webhook_id: UUID, by: By) -> bool:
    """Disable a webhook to which nothing was delivered for `FAILING`; return whether it was.

    Every administrator is told by mail. Call it when a delivery has been given up.
    """
    cursor = await conn.execute(
        """
        UPDATE event_sinks SET disabled_at = now(), disabled_reason = 'failing', replay_at = NULL, replay_after = NULL
         WHERE id = %(id)s AND ended_at IS NULL AND disabled_at IS NULL AND failing_since <= now() - %(failing)s
        """,
        {"id": webhook_id, "failing": FAILING},
    )
    if cursor.rowcount == 0:
        return False
    await record(conn, "webhook_disabled", by, webhook=str(webhook_id), reason="failing")
    await tell_admins(conn, "webhook_stopped", by)
    return True


async def enable_webhook(conn: Connection, webhook_id: UUID, by: By) -> None:
    """Enable a disabled webhook in the caller's transaction, from now on. One that is enabled stays so.

    Raises:
        WebhookNotFoundError: there is none.
        WebhookNotInUseError: it has ended.
    """
    cursor = await conn.execute(
        """
        UPDATE event_sinks SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL
         WHERE id = %(id)s AND kind = 'webhook' AND ended_at IS NULL AND disabled_at IS NOT NULL
        """,
        {"id": webhook_id},
    )
    if cursor.rowcount == 0:
        await _check_not_ended(conn, webhook_id)
        return
    await record(conn, "webhook_enabled", by, webhook=str(webhook_id))
    await tell_admins(conn, "webhook_changed", by)


async def _check_not_ended(conn: Connection, webhook_id: UUID) -> None:
    if (await get_webhook(conn, webhook_id)).ended_at is not None:
        raise WebhookNotInUseError


async def list_webhooks(conn: Connection) -> list[Webhook]:
    """Return the webhooks: those in use first, then those that have ended in the last month; the newest first."""
    async with conn.cursor(row_factory=class_row(Webhook)) as cursor:
        await cursor.execute(f"{_SELECT} ORDER BY s.ended_at IS NOT NULL, s.created_at DESC, s.id LIMIT 200")
        return await cursor.fetchall()


async def get_webhook(conn: Connection, webhook_id: UUID) -> Webhook:
    """Return a webhook.

    Raises:
        WebhookNotFoundError: there is none.
    """
    async with conn.cursor(row_factory=class_row(Webhook)) as cursor:
        await cursor.execute(f"{_SELECT} AND s.id = %(id)s", {"id": webhook_id})
        found = await cursor.fetchone()
    if found is None:
        raise WebhookNotFoundError
    return found
