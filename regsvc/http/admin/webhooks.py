"""Webhooks: administrators add, change, test and remove them, and repeat deliveries. No service token may."""

from __future__ import annotations

from uuid import UUID

import structlog
from quart import Blueprint, Response

from regsvc.accounts.events import webhooks
from regsvc.accounts.events.deliveries import list_deliveries
from regsvc.accounts.events.replay import DeliveryNotFoundError
from regsvc.accounts.events.webhooks import TooManyWebhooksError, WebhookNotFoundError, WebhookNotInUseError
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.flows import webhooks as flow
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, documented, paged
from regsvc.http.request.admin_authentication import authenticate_admin
from regsvc.http.request.body import read_body, read_id, read_query
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.formats import Nothing
from regsvc.schemas.rows import show_page, show_row
from regsvc.schemas.webhooks import (
    DeliveryPage,
    DeliveryQuery,
    ReplayBody,
    TestSent,
    WebhookBody,
    Webhooks,
    WebhookSecret,
    WebhookShown,
)

log = structlog.get_logger()
blueprint = Blueprint("admin_webhooks", __name__)

_FILTERS = [
    Parameter("state", "`dead`: only those that were given up.", where="query"),
    *paged(),
]
_ONE = [ProofNeededError, WebhookNotFoundError]
_USED = [*_ONE, WebhookNotInUseError]


@blueprint.get("/admin/webhooks")
@documented({200: Webhooks}, needs_admin=True)
async def list_all() -> Response:
    """List the webhooks: those in use first, then those that ended in the last month."""
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.connection() as conn:
        found = await webhooks.list_webhooks(conn)
    log.info("webhooks listed", actor=str(token.user_id), count=len(found))
    return answer({"webhooks": [show_row(each) for each in found]})


@blueprint.post("/admin/webhooks")
@documented(
    {201: WebhookSecret}, body=WebhookBody, needs_admin=True, errors=[ProofNeededError, TooManyWebhooksError]
)
async def add() -> Response:
    """Add a webhook; the answer alone has its secret. Every administrator is told by mail."""
    context = get_context()
    token = await authenticate_admin(context)
    body = await read_body(WebhookBody)
    webhook_id, secret = await flow.add_webhook(context, get_caller(), token, body)
    return answer({"id": str(webhook_id), "secret": secret}, 201)


@blueprint.get("/admin/webhooks/<webhook_id>")
@documented({200: WebhookShown}, needs_admin=True, errors=[WebhookNotFoundError])
async def show(webhook_id: str) -> Response:
    """Show a webhook, and how it fares."""
    token = await authenticate_admin(get_context())
    wanted = read_id(webhook_id, WebhookNotFoundError)
    log.info("webhook shown", actor=str(token.user_id), webhook=str(wanted))
    return await _show(wanted)


@blueprint.post("/admin/webhooks/<webhook_id>/rotate")
@documented({200: WebhookSecret}, needs_admin=True, errors=_ONE)
async def rotate(webhook_id: str) -> Response:
    """Give a webhook a new secret. The one before signs as well for 24 hours."""
    context = get_context()
    token = await authenticate_admin(context)
    wanted = read_id(webhook_id, WebhookNotFoundError)
    secret = await flow.rotate_webhook(context, get_caller(), token, wanted)
    return answer({"id": str(wanted), "secret": secret})


@blueprint.post("/admin/webhooks/<webhook_id>/disable")
@documented({200: WebhookShown}, needs_admin=True, errors=_USED)
async def disable(webhook_id: str) -> Response:
    """Disable a webhook: nothing is sent to it, and what is due is cancelled. Every administrator is told by mail."""
    return await _show(await _change(webhook_id, "disable"))


@blueprint.post("/admin/webhooks/<webhook_id>/enable")
@documented({200: WebhookShown}, needs_admin=True, errors=_USED)
async def enable(webhook_id: str) -> Response:
    """Enable a disabled webhook from now on. Replay what it missed with `…/replay`."""
    return await _show(await _change(webhook_id, "enable"))


@blueprint.delete("/admin/webhooks/<webhook_id>")
@documented({204: Nothing}, needs_admin=True, errors=_ONE)
async def remove(webhook_id: str) -> Response:
    """End a webhook. What was not delivered yet is cancelled."""
    await _change(webhook_id, "remove")
    return empty()


@blueprint.post("/admin/webhooks/<webhook_id>/test")
@documented({202: TestSent}, needs_admin=True, errors=_USED)
async def test(webhook_id: str) -> Response:
    """Send an event of type `webhook.test` to a webhook; what became of it is in the list of its deliveries."""
    context = get_context()
    token = await authenticate_admin(context)
    wanted = read_id(webhook_id, WebhookNotFoundError)
    delivery_id = await flow.test_webhook(context, get_caller(), token, wanted)
    return answer({"delivery": str(delivery_id)}, 202)


@blueprint.post("/admin/webhooks/<webhook_id>/replay")
@documented({202: WebhookShown}, body=ReplayBody, needs_admin=True, errors=_USED)
async def replay_since(webhook_id: str) -> Response:
    """Send the events since a time again, also those from before the webhook was there. They keep their ids.

    A worker does it in batches; `replay_at` says how far it has got.
    """
    context = get_context()
    token = await authenticate_admin(context)
    wanted, body = read_id(webhook_id, WebhookNotFoundError), await read_body(ReplayBody)
    await flow.replay_since(context, get_caller(), token, wanted, body.since)
    return await _show(wanted, 202)


@blueprint.get("/admin/webhooks/<webhook_id>/deliveries")
@documented(
    {200: DeliveryPage},
    parameters=_FILTERS,
    query=DeliveryQuery,
    needs_admin=True,
    errors=[WebhookNotFoundError],
)
async def list_sent(webhook_id: str) -> Response:
    """List the deliveries to a webhook, the newest events first."""
    context = get_context()
    token = await authenticate_admin(context)
    wanted, query = read_id(webhook_id, WebhookNotFoundError), read_query(DeliveryQuery)
    async with context.pool.connection() as conn:
        await webhooks.get_webhook(conn, wanted)
        page = await list_deliveries(
            conn, wanted, dead=query.state == "dead", after=query.cursor, limit=query.limit
        )
    log.info("deliveries listed", actor=str(token.user_id), webhook=str(wanted), count=len(page.rows))
    return answer(show_page(page, "deliveries"))


@blueprint.post("/admin/webhooks/<webhook_id>/deliveries/<delivery_id>/replay")
@documented({204: Nothing}, needs_admin=True, errors=[*_USED, DeliveryNotFoundError])
async def replay(webhook_id: str, delivery_id: str) -> Response:
    """Send an event again, at once, whose delivery has ended or waits for its next attempt. It keeps its id."""
    context = get_context()
    token = await authenticate_admin(context)
    wanted = read_id(webhook_id, WebhookNotFoundError)
    delivery = read_id(delivery_id, DeliveryNotFoundError)
    await flow.replay_one(context, get_caller(), token, wanted, delivery)
    return empty()


async def _change(webhook_id: str, change: flow.Change) -> UUID:
    context = get_context()
    token = await authenticate_admin(context)
    wanted = read_id(webhook_id, WebhookNotFoundError)
    await flow.change_webhook(context, get_caller(), token, wanted, change)
    return wanted


async def _show(webhook_id: UUID, status: int = 200) -> Response:
    async with get_context().pool.connection() as conn:
        return answer(show_row(await webhooks.get_webhook(conn, webhook_id)), status)
