"""What an administrator does to webhooks. All of it takes a proof of the last five minutes, and is audited.

Service tokens may do none of it: who adds a webhook is told what happens to every user from then on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

import structlog

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.events import webhooks
from regsvc.accounts.events.replay import add_test, replay_delivery, request_replay
from regsvc.flows.caller import Caller
from regsvc.flows.login.proof import require_proof
from regsvc.flows.service import Service
from regsvc.postgres.connection import Connection
from regsvc.schemas.webhooks import WebhookBody
from regsvc.security.signing.access_token import AccessToken

log = structlog.get_logger()

Change = Literal["disable", "enable", "remove"]
CHANGES: Final[dict[Change, tuple[Callable[[Connection, UUID, By], Awaitable[None]], str]]] = {
    "disable": (webhooks.disable_webhook, "webhook disabled"),
    "enable": (webhooks.enable_webhook, "webhook enabled"),
    "remove": (webhooks.remove_webhook, "webhook removed"),
}


async def add_webhook(
    service: Service, caller: Caller, admin: AccessToken, body: WebhookBody
) -> tuple[UUID, str]:
    """Add a webhook, and return its id and its secret, which is shown once. Every administrator is told by mail.

    Raises:
        ProofNeededError: the administrator has not proved to be there.
        TooManyWebhooksError: there are as many as there may be.
    """
    await require_proof(service, caller, admin)
    async with service.pool.transaction() as conn:
        webhook_id, secret = await webhooks.add_webhook(
            conn, service.secrets, body.name, body.url, types=body.types, by=caller.as_admin(admin)
        )
    log.info("webhook added", actor=str(admin.user_id), webhook=str(webhook_id))
    return webhook_id, secret


async def rotate_webhook(service: Service, caller: Caller, admin: AccessToken, webhook_id: UUID) -> str:
    """Give a webhook a new secret and return it. The one before signs as well for 24 hours.

    Raises:
        ProofNeededError: the administrator has not proved to be there.
        WebhookNotFoundError: there is none, or it has ended.
    """
    await require_proof(service, caller, admin)
    async with service.pool.transaction() as conn:
        secret = await webhooks.rotate_webhook(conn, service.secrets, webhook_id, caller.as_admin(admin))
    log.info("webhook rotated", actor=str(admin.user_id), webhook=str(webhook_id))
    return secret


async def change_webhook(
    service: Service, caller: Caller, admin: AccessToken, webhook_id: UUID, change: Change
) -> None:
    """Disable, enable or remove a webhook. Every administrator is told by mail.

    Raises:
        ProofNeededError: the administrator has not proved to be there.
        WebhookNotFoundError, WebhookNotInUseError: there is none, or none of which this makes sense.
    """
    act, event = CHANGES[change]
    await require_proof(service, caller, admin)
    async with service.pool.transaction() as conn:
        await act(conn, webhook_id, caller.as_admin(admin))
    log.info(event, actor=str(admin.user_id), webhook=str(webhook_id))


async def test_webhook(service: Service, caller: Caller, admin: AccessToken, webhook_id: UUID) -> UUID:
    """Send an event of type `webhook.test`, and return the id of its delivery.

    Raises:
        ProofNeededError: the administrator has not proved to be there.
        WebhookNotFoundError, WebhookNotInUseError: nothing is sent to it.
    """
    await require_proof(service, caller, admin)
    async with service.pool.transaction() as conn:
        (await webhooks.get_webhook(conn, webhook_id)).check_used()
        delivery_id = await add_test(conn, webhook_id)
        await record(conn, "webhook_tested", caller.as_admin(admin), webhook=str(webhook_id))
    log.info("webhook tested", actor=str(admin.user_id), webhook=str(webhook_id))
    return delivery_id


async def replay_one(
    service: Service, caller: Caller, admin: AccessToken, webhook_id: UUID, delivery_id: UUID
) -> None:
    """Send one event again, at once, whose delivery has ended or waits for its next attempt. It keeps its id.

    Raises:
        ProofNeededError: the administrator has not proved to be there.
        WebhookNotFoundError, WebhookNotInUseError: nothing is sent to it.
        DeliveryNotFoundError: there is no such delivery, or it is under way.
    """
    await require_proof(service, caller, admin)
    async with service.pool.transaction() as conn:
        webhook = await webhooks.get_webhook(conn, webhook_id)
        await replay_delivery(conn, webhook_id, delivery_id)
        webhook.check_used()
        await record(conn, "events_replayed", caller.as_admin(admin), sink=str(webhook_id), count=1)
    log.info("events replayed", actor=str(admin.user_id), webhook=str(webhook_id), count=1)


async def replay_since(
    service: Service, caller: Caller, admin: AccessToken, webhook_id: UUID, since: datetime
) -> None:
    """Ask for the events since a time to be sent again, by a worker and in batches. They keep their ids.

    Raises:
        ProofNeededError: the administrator has not proved to be there.
        WebhookNotFoundError, WebhookNotInUseError: nothing is sent to it.
    """
    await require_proof(service, caller, admin)
    async with service.pool.transaction() as conn:
        (await webhooks.get_webhook(conn, webhook_id)).check_used()
        await request_replay(conn, webhook_id, since)
        await record(
            conn, "events_replayed", caller.as_admin(admin), sink=str(webhook_id), since=since.isoformat()
        )
    log.info("replay requested", actor=str(admin.user_id), webhook=str(webhook_id))
