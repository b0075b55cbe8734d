"""The console's webhooks: add one, see how it fares, change it, and send its events again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from quart import Response, request

from regsvc.accounts.events import webhooks
from regsvc.accounts.events.deliveries import list_deliveries
from regsvc.accounts.events.replay import DeliveryNotFoundError
from regsvc.accounts.events.types import TYPES
from regsvc.accounts.events.webhooks import WebhookNotFoundError
from regsvc.accounts.sessions.proof import ProofNeededError, find_proof
from regsvc.errors import RegsvcError
from regsvc.flows import webhooks as flow
from regsvc.http.context import get_context
from regsvc.http.pages.console.lists import ROWS, link_more, read_filters
from regsvc.http.pages.console.overview import get_operator, show_console
from regsvc.http.pages.console.refusals import explain
from regsvc.http.pages.factors.proof import lead_to_proof
from regsvc.http.pages.forms import lead_to, read_form
from regsvc.http.pages.page import blueprint
from regsvc.http.request.body import read_id, read_values
from regsvc.http.request.caller import get_caller
from regsvc.postgres.connection import Connection
from regsvc.schemas.webhooks import DeliveryQuery, WebhookBody
from regsvc.security.signing.access_token import AccessToken

_PATH = "/admin/webhooks"
SPANS: Final = {
    "the last hour": timedelta(hours=1),
    "the last 6 hours": timedelta(hours=6),
    "the last day": timedelta(days=1),
    "the last week": timedelta(days=7),
    "the last 30 days": timedelta(days=30),
}
"""From when on events may be sent again, by the words of the form."""


@blueprint.get(_PATH)
async def open_webhooks() -> Response:
    """List the webhooks, those in use first."""
    return await _show_all(await get_operator())


@blueprint.post(_PATH)
async def submit_webhook() -> Response:
    """Add a webhook, and show its secret."""
    form = await read_form()
    operator = await get_operator()
    types = [name for name in TYPES if name in form] or None
    given = {"url": form.get("url", "").strip(), "name": form.get("name", "").strip()}
    try:
        body = read_values(WebhookBody, {**given, "types": types})
        webhook_id, secret = await flow.add_webhook(get_context(), get_caller(), operator, body)
    except ProofNeededError:
        return lead_to_proof("webhooks")
    except RegsvcError as error:
        status, problem = explain(error)
        return await _show_all(operator, status, problem=problem, given=given, chosen=types or ())
    return await _show_secret(webhook_id, secret, 201)


@blueprint.get(f"{_PATH}/<webhook_id>")
async def open_webhook(webhook_id: str) -> Response:
    """Show a webhook and its deliveries."""
    operator = await get_operator()
    return await _show_one(operator, read_id(webhook_id, WebhookNotFoundError))


@blueprint.post(f"{_PATH}/<webhook_id>/rotate")
async def submit_rotation(webhook_id: str) -> Response:
    """Give a webhook a new secret, and show it."""
    await read_form()
    operator, wanted = await get_operator(), read_id(webhook_id, WebhookNotFoundError)
    try:
        secret = await flow.rotate_webhook(get_context(), get_caller(), operator, wanted)
    except RegsvcError as error:
        return await _refuse(operator, wanted, error)
    return await _show_secret(wanted, secret)


@blueprint.post(f"{_PATH}/<webhook_id>/<deed>")
async def submit_webhook_deed(webhook_id: str, deed: str) -> Response:
    """Test, disable, enable or remove a webhook, or send its events since a time again."""
    form = await read_form()
    operator, wanted = await get_operator(), read_id(webhook_id, WebhookNotFoundError)
    who = (get_context(), get_caller(), operator, wanted)
    try:
        match deed:
            case "test":
                await flow.test_webhook(*who)
            case "replay":
                since = datetime.now(UTC) - SPANS.get(form.get("since", ""), timedelta(hours=1))
                await flow.replay_since(*who, since)
            case "disable" | "enable" | "remove":
                await flow.change_webhook(*who, deed)
            case _:
                raise WebhookNotFoundError
    except RegsvcError as error:
        return await _refuse(operator, wanted, error)
    return lead_to(f"{_PATH}/{wanted}")


@blueprint.post(f"{_PATH}/<webhook_id>/deliveries/<delivery_id>/replay")
async def submit_redelivery(webhook_id: str, delivery_id: str) -> Response:
    """Send one event again."""
    await read_form()
    operator, wanted = await get_operator(), read_id(webhook_id, WebhookNotFoundError)
    delivery = read_id(delivery_id, DeliveryNotFoundError)
    try:
        await flow.replay_one(get_context(), get_caller(), operator, wanted, delivery)
    except RegsvcError as error:
        return await _refuse(operator, wanted, error)
    return lead_to(f"{_PATH}/{wanted}#deliveries")


async def _refuse(operator: AccessToken, wanted: UUID, error: RegsvcError) -> Response:
    if isinstance(error, ProofNeededError):
        return lead_to_proof(f"webhook-{wanted}")
    status, problem = explain(error)
    return await _show_one(operator, wanted, status, problem=problem)


async def _show_all(operator: AccessToken, status: int = 200, **values: Any) -> Response:
    async with get_context().pool.connection() as conn:
        found = await webhooks.list_webhooks(conn)
        proved = await _is_proved(conn, operator)
    shown = {"problem": "", "given": {"url": "", "name": ""}, "chosen": (), **values}
    return await show_console(
        "console_webhooks.html", status, webhooks=found, types=TYPES, proved=proved, **shown
    )


async def _show_one(operator: AccessToken, wanted: UUID, status: int = 200, *, problem: str = "") -> Response:
    query = read_filters(DeliveryQuery)
    async with get_context().pool.connection() as conn:
        webhook = await webhooks.get_webhook(conn, wanted)
        page = await list_deliveries(
            conn, wanted, dead=query.state == "dead", after=query.cursor, limit=min(query.limit, ROWS)
        )
        proved = await _is_proved(conn, operator)
    return await show_console(
        "console_webhook.html",
        status,
        webhook=webhook,
        deliveries=page.rows,
        query=query,
        more=link_more(page.next_cursor) if request.method == "GET" else "",
        spans=list(SPANS),
        proved=proved,
        problem=problem,
    )


async def _show_secret(webhook_id: UUID, secret: str, status: int = 200) -> Response:
    """Show a secret in the answer itself: it is nowhere to be read again."""
    return await show_console("console_webhook_secret.html", status, webhook_id=webhook_id, secret=secret)


async def _is_proved(conn: Connection, operator: AccessToken) -> bool:
    found = await find_proof(conn, operator.session_id)
    return found is not None and found.proved_until is not None
