"""`regsvc webhooks`: add, list, test, replay, rotate, disable and remove the webhooks that events are sent to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import click
import structlog
import trio

from regsvc.accounts.audit.record import By
from regsvc.accounts.events import webhooks as hooks
from regsvc.accounts.events.deliveries import get_outcome, list_deliveries
from regsvc.accounts.events.replay import add_test, replay_delivery
from regsvc.accounts.events.types import TYPES
from regsvc.accounts.events.webhooks import Webhook
from regsvc.commands.events.replay import Since, repeat
from regsvc.commands.options import as_json
from regsvc.commands.runner import (
    ACTOR,
    EX_FAILURE,
    by_operator,
    load_operation,
    open_database,
    open_operation,
    print_json,
    printable,
    run_command,
)
from regsvc.parts import make_secrets
from regsvc.postgres.connection import Connection
from regsvc.schemas.rows import show_row

log = structlog.get_logger()

MOST = 200  # deliveries listed
_TEST_SECONDS = 30.0
_LONGEST_NAME = 100

which = click.argument("webhook_id", type=click.UUID)


@click.group()
def webhooks() -> None:
    """Webhooks: where this service posts its events (Standard Webhooks)."""


@webhooks.command()
@click.argument("url")
@click.option("--name", default="", help="What the webhook is for.")
@click.option(
    "--type",
    "types",
    type=click.Choice(TYPES),
    multiple=True,
    help="Type of event to send; repeat it for several. All by default.",
)
@as_json
def add(url: str, name: str, types: tuple[str, ...], *, machine: bool) -> None:
    """Add a webhook, and print its secret once."""
    from regsvc.webhooks.request import check_url  # noqa: PLC0415 - it loads an HTTP client

    try:
        url = check_url(url)
    except ValueError as error:
        raise click.BadParameter(f"It {error}.", param_hint="URL") from error
    name = name.strip()
    if len(name) > _LONGEST_NAME or (name and not name.isprintable()):
        raise click.BadParameter(f"Use at most {_LONGEST_NAME} printable characters.", param_hint="--name")

    async def run() -> None:
        chosen = load_operation()
        async with open_database(chosen) as conn, conn.transaction():
            webhook_id, secret = await hooks.add_webhook(
                conn, make_secrets(chosen), name, url, types=types or None, by=by_operator()
            )
        log.info("webhook added", actor=ACTOR, webhook=str(webhook_id))
        if machine:
            print_json({"id": str(webhook_id), "url": url, "secret": secret})
            return
        click.echo(secret)
        click.echo(f"{webhook_id}  {url}", err=True)
        click.echo("This is the only time that the secret is shown.", err=True)

    run_command(run)


@webhooks.command("list")
@click.argument("webhook_id", type=click.UUID, required=False)
@click.option("--dead", is_flag=True, help="Only deliveries that were given up.")
@as_json
def list_(webhook_id: UUID | None, *, dead: bool, machine: bool) -> None:
    """List the webhooks, or the last deliveries to the one with WEBHOOK_ID, the newest first."""

    async def run() -> None:
        async with open_operation() as conn:
            if webhook_id is None:
                found = await hooks.list_webhooks(conn)
                rows = [show_row(each) for each in found]
                lines = [_describe(each) for each in found]
            else:
                await hooks.get_webhook(conn, webhook_id)
                sent = (await list_deliveries(conn, webhook_id, dead=dead, limit=MOST)).rows
                rows = [show_row(each) for each in sent]
                lines = [
                    f"{each.id}  {each.type}  {each.state}  attempts {each.attempts}  {printable(each.reason)}".rstrip()
                    for each in sent
                ]
        if machine:
            print_json({"webhooks" if webhook_id is None else "deliveries": rows})
            return
        for line in lines:
            click.echo(line)

    run_command(run)


@webhooks.command()
@which
def test(webhook_id: UUID) -> None:
    """Send an event of type webhook.test, and say what its receiver answered. The service has to be running."""

    async def run() -> None:
        async with open_operation() as conn:
            (await hooks.get_webhook(conn, webhook_id)).check_used()
            delivery_id = await add_test(conn, webhook_id)
            outcome = None
            with trio.move_on_after(_TEST_SECONDS):
                while outcome is None or outcome[0] in {"queued", "sending"}:
                    await trio.sleep(0.2)
                    outcome = await get_outcome(conn, delivery_id)
        state, status, reason = outcome or ("queued", None, None)
        click.echo(f"{state}: {reason or status or 'no worker has taken it'}")
        if state != "delivered":
            raise SystemExit(EX_FAILURE)

    run_command(run)


@webhooks.command()
@which
@click.option("--delivery", type=click.UUID, help="Repeat this delivery alone.")
@click.option("--since", type=Since(), help="Repeat the events since this time, or so long ago: 90m, 6h, 2d.")
def replay(webhook_id: UUID, delivery: UUID | None, since: datetime | None) -> None:
    """Send events again. They keep their ids."""
    if (delivery is None) == (since is None):
        raise click.UsageError("Give --delivery or --since.")

    async def run() -> None:
        async with open_operation() as conn:
            (await hooks.get_webhook(conn, webhook_id)).check_used()
            if delivery is not None:
                await replay_delivery(conn, webhook_id, delivery)
                count = 1
            else:
                assert since is not None  # noqa: S101 - checked above
                count = await repeat(conn, webhook_id, since)
        click.echo(f"{count} events are sent again")

    run_command(run)


@webhooks.command()
@which
def rotate(webhook_id: UUID) -> None:
    """Give a webhook a new secret, and print it once. The one before signs as well for 24 hours."""

    async def run() -> None:
        chosen = load_operation()
        async with open_database(chosen) as conn, conn.transaction():
            secret = await hooks.rotate_webhook(conn, make_secrets(chosen), webhook_id, by_operator())
        log.info("webhook rotated", actor=ACTOR, webhook=str(webhook_id))
        click.echo(secret)

    run_command(run)


@webhooks.command()
@which
def disable(webhook_id: UUID) -> None:
    """Send nothing to a webhook until it is enabled. What is due is cancelled."""
    _change(webhook_id, hooks.disable_webhook, "webhook disabled")


@webhooks.command()
@which
def enable(webhook_id: UUID) -> None:
    """Send events to a disabled webhook again, from now on. Use `replay --since` for what it missed."""
    _change(webhook_id, hooks.enable_webhook, "webhook enabled")


@webhooks.command()
@which
def remove(webhook_id: UUID) -> None:
    """End a webhook. What was not delivered yet is cancelled."""
    _change(webhook_id, hooks.remove_webhook, "webhook removed")


def _change(webhook_id: UUID, change: Callable[[Connection, UUID, By], Awaitable[None]], event: str) -> None:
    async def run() -> None:
        async with open_database(load_operation()) as conn, conn.transaction():
            await change(conn, webhook_id, by_operator())
        log.info(event, actor=ACTOR, webhook=str(webhook_id))

    run_command(run)


@webhooks.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; 0 takes a free one."
)
def listen(port: int) -> None:
    """Print events as they come, by a webhook on this machine that lasts as long as this command.

    The service has to be allowed to reach it: `regsvc dev` is, others with REGSVC_WEBHOOKS_ALLOW=127.0.0.1.
    """
    from regsvc.commands.events.listening import listen_events  # noqa: PLC0415 - only here

    async def run() -> None:
        chosen = load_operation()
        await listen_events(chosen, port, click.echo)

    run_command(run)


def _describe(webhook: Webhook) -> str:
    shown = show_row(webhook)
    state = "in use"
    if webhook.ended_at is not None:
        state = f"ended {shown['ended_at']} ({webhook.ended_reason})"
    elif webhook.disabled_at is not None:
        state = f"disabled {shown['disabled_at']} ({webhook.disabled_reason})"
    elif webhook.failing_since is not None:
        state = f"failing since {shown['failing_since']}"
    types = "all events" if webhook.types is None else " ".join(webhook.types)
    open_ = f"waiting {webhook.waiting}  given up {webhook.given_up}"
    return f"{webhook.id}  {printable(webhook.url)}  {printable(webhook.name)}  {types}  {state}  {open_}"
