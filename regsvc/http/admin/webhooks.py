"""Webhooks: administrators add, rotate, test and remove them, and repeat deliveries. No service token may."""

from __future__ import annotations

from typing import Annotated

import structlog
from pydantic import Field, StringConstraints, field_validator
from quart import Blueprint, Response

from regsvc.accounts.audit.record import record
from regsvc.accounts.events import sinks
from regsvc.accounts.events.deliveries import Shown, list_deliveries
from regsvc.accounts.events.replay import DeliveryNotFoundError, add_test, replay_delivery
from regsvc.accounts.events.sinks import TooManyWebhooksError, Webhook, WebhookNotFoundError
from regsvc.accounts.events.types import TYPES
from regsvc.accounts.sessions.proof import ProofNeededError
from regsvc.flows.login.proof import require_proof
from regsvc.http.context import Context, get_context
from regsvc.http.openapi.operation import documented
from regsvc.http.request.admin_authentication import authenticate_admin
from regsvc.http.request.body import read_body, read_id
from regsvc.http.request.caller import get_caller
from regsvc.http.response.json_response import answer, empty
from regsvc.schemas.fields import Body
from regsvc.schemas.formats import Id, Nothing
from regsvc.schemas.rows import describe_row, show_row
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.signing.access_token import AccessToken

log = structlog.get_logger()
blueprint = Blueprint("admin_webhooks", __name__)

MOST = 200  # deliveries listed
WebhookShown = describe_row(Webhook, "WebhookShown")
DeliveryShown = describe_row(Shown, "DeliveryShown")


class Webhooks(TypedDict):
    """The webhooks, the newest first."""

    webhooks: list[WebhookShown]  # type: ignore[valid-type]


class Deliveries(TypedDict):
    """The last 200 deliveries to a webhook, the newest events first."""

    deliveries: list[DeliveryShown]  # type: ignore[valid-type]


class WebhookSecret(TypedDict):
    """A webhook's secret, which is shown once."""

    id: Id
    secret: str


class TestSent(TypedDict):
    """The delivery of a test event."""

    delivery: Id


class WebhookBody(Body):
    """A new webhook."""

    url: Annotated[str, Field(description="Where events are posted.")]
    name: Annotated[str, StringConstraints(max_length=100), Field(description="What it is for.")] = ""
    types: Annotated[
        list[str] | None, Field(description="The types of events that it receives; all by default.")
    ] = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        from regsvc.webhooks.request import check_url  # noqa: PLC0415 - it loads an HTTP client

        return check_url(url)

    @field_validator("types")
    @classmethod
    def _check_types(cls, types: list[str] | None) -> list[str] | None:
        if types is not None and (not types or set(types) - set(TYPES)):
            raise ValueError("has to be some of the types of events")
        return types


@blueprint.get("/admin/webhooks")
@documented({200: Webhooks}, needs_admin=True)
async def list_all() -> Response:
    """List the webhooks, with those that have ended."""
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.connection() as conn:
        found = await sinks.list_webhooks(conn)
    log.info("webhooks listed", actor=str(token.user_id), count=len(found))
    return answer({"webhooks": [show_row(each) for each in found]})


@blueprint.post("/admin/webhooks")
@documented(
    {201: WebhookSecret}, body=WebhookBody, needs_admin=True, errors=[ProofNeededError, TooManyWebhooksError]
)
async def add() -> Response:
    """Add a webhook; the answer alone has its secret. Every administrator is told by mail."""
    context = get_context()
    token = await _authenticate(context)
    body = await read_body(WebhookBody)
    by = get_caller().as_admin(token)
    async with context.pool.transaction() as conn:
        webhook_id, secret = await sinks.add_webhook(
            conn, context.secrets, body.name, body.url, types=body.types, by=by
        )
    log.info("webhook added", actor=str(token.user_id), webhook=str(webhook_id))
    return answer({"id": str(webhook_id), "secret": secret}, 201)


@blueprint.post("/admin/webhooks/<webhook_id>/rotate")
@documented({200: WebhookSecret}, needs_admin=True, errors=[ProofNeededError, WebhookNotFoundError])
async def rotate(webhook_id: str) -> Response:
    """Give a webhook a new secret. The one before signs as well for 24 hours."""
    context = get_context()
    token = await _authenticate(context)
    wanted = read_id(webhook_id, WebhookNotFoundError)
    async with context.pool.transaction() as conn:
        secret = await sinks.rotate_webhook(conn, context.secrets, wanted, get_caller().as_admin(token))
    log.info("webhook rotated", actor=str(token.user_id), webhook=webhook_id)
    return answer({"id": str(wanted), "secret": secret})


@blueprint.delete("/admin/webhooks/<webhook_id>")
@documented({204: Nothing}, needs_admin=True, errors=[ProofNeededError, WebhookNotFoundError])
async def remove(webhook_id: str) -> Response:
    """End a webhook. What was not delivered yet is cancelled."""
    context = get_context()
    token = await _authenticate(context)
    wanted = read_id(webhook_id, WebhookNotFoundError)
    async with context.pool.transaction() as conn:
        await sinks.end_webhook(conn, wanted, "removed", get_caller().as_admin(token))
    log.info("webhook removed", actor=str(token.user_id), webhook=webhook_id)
    return empty()


@blueprint.post("/admin/webhooks/<webhook_id>/test")
@documented({202: TestSent}, needs_admin=True, errors=[ProofNeededError, WebhookNotFoundError])
async def test(webhook_id: str) -> Response:
    """Send an event of type `webhook.test` to a webhook; what became of it is in the list of its deliveries."""
    context = get_context()
    token = await _authenticate(context)
    wanted = read_id(webhook_id, WebhookNotFoundError)
    async with context.pool.transaction() as conn:
        await sinks.get_webhook(conn, wanted)
        delivery_id = await add_test(conn, wanted)
        await record(conn, "webhook_tested", get_caller().as_admin(token), webhook=str(wanted))
    return answer({"delivery": str(delivery_id)}, 202)


@blueprint.get("/admin/webhooks/<webhook_id>/deliveries")
@documented({200: Deliveries}, needs_admin=True, errors=[WebhookNotFoundError])
async def list_sent(webhook_id: str) -> Response:
    """List the last 200 deliveries to a webhook."""
    context = get_context()
    token = await authenticate_admin(context)
    wanted = read_id(webhook_id, WebhookNotFoundError)
    async with context.pool.connection() as conn:
        await sinks.get_webhook(conn, wanted)
        found = await list_deliveries(conn, wanted, MOST)
    log.info("deliveries listed", actor=str(token.user_id), webhook=webhook_id, count=len(found))
    return answer({"deliveries": [show_row(each) for each in found]})


@blueprint.post("/admin/webhooks/<webhook_id>/deliveries/<delivery_id>/replay")
@documented(
    {204: Nothing},
    needs_admin=True,
    errors=[ProofNeededError, WebhookNotFoundError, DeliveryNotFoundError],
)
async def replay(webhook_id: str, delivery_id: str) -> Response:
    """Send an event again, at once, whose delivery has ended or waits for its next attempt. It keeps its id."""
    context = get_context()
    token = await _authenticate(context)
    webhook = read_id(webhook_id, WebhookNotFoundError)
    delivery = read_id(delivery_id, DeliveryNotFoundError)
    async with context.pool.transaction() as conn:
        await sinks.get_webhook(conn, webhook)
        await replay_delivery(conn, webhook, delivery)
        by = get_caller().as_admin(token)
        await record(conn, "events_replayed", by, sink=str(webhook), count=1)
    log.info("events replayed", actor=str(token.user_id), count=1)
    return empty()


async def _authenticate(context: Context) -> AccessToken:
    """Return the administrator, who has proved to be there.

    Raises:
        ProofNeededError: they have not, in the last five minutes.
    """
    token = await authenticate_admin(context)
    await require_proof(context, get_caller(), token)
    return token
