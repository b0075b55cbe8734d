"""`regsvc mail`: find, show, replay, cancel and preview mails."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, get_args
from uuid import UUID

import click
import structlog

from regsvc.accounts.address import find_key
from regsvc.accounts.admin import mail_actions, mail_search
from regsvc.accounts.admin.mail_search import Filters, OutboxMail
from regsvc.accounts.audit.record import By
from regsvc.accounts.cursor import Position
from regsvc.accounts.registrations.registration import RegistrationOverError
from regsvc.commands.mails.dead_letters import dead_letters
from regsvc.commands.mails.feedback import feedback, suppressed
from regsvc.commands.mails.preview import preview
from regsvc.commands.mails.route import route
from regsvc.commands.options import as_json, pages, print_page
from regsvc.commands.runner import (
    ACTOR,
    EX_FAILURE,
    by_operator,
    open_operation,
    print_json,
    printable,
    run_command,
)
from regsvc.postgres.connection import Connection
from regsvc.schemas.mails import read_mail
from regsvc.schemas.rows import show_row

log = structlog.get_logger()

Act = Callable[[Connection, UUID, By], Awaitable[None]]

_REFUSALS = (
    mail_search.MailNotFoundError,
    mail_actions.MailInHandError,
    mail_actions.MailOverError,
    RegistrationOverError,
)


@click.group()
def mail() -> None:
    """Mails: find, show, replay and cancel them."""


mail.add_command(preview)
mail.add_command(dead_letters)
mail.add_command(feedback)
mail.add_command(suppressed)
mail.add_command(route)


@mail.command("list")
@click.option("--state", type=click.Choice(get_args(mail_search.State)), help="Only mails in this state.")
@click.option(
    "--kind", type=click.Choice(get_args(mail_search.Kind)), help="Only mails requested in this way."
)
@click.option("--address", help="Only mails to this address.")
@pages
def list_(
    state: mail_search.State | None,
    kind: mail_search.Kind | None,
    address: str | None,
    limit: int,
    after: Position | None,
    *,
    machine: bool,
) -> None:
    """List mails, the newest first."""
    email_key = find_key(address) if address is not None else None
    if address is not None and email_key is None:
        raise click.BadParameter("This is not an email address.", param_hint="--address")

    async def run() -> None:
        async with open_operation() as conn:
            page = await mail_search.list_mails(
                conn, Filters(state, kind, email_key), after=after, limit=limit
            )
        given = {"state": state, "kind": kind, "address": address}
        wanted = {name: value for name, value in given.items() if value is not None}
        log.info("mails listed", actor=ACTOR, count=len(page.rows), **wanted)
        print_page(page, "mails", _print_line, machine=machine)

    run_command(run)


@mail.command()
@click.argument("mail_id", type=click.UUID)
@as_json
def show(mail_id: UUID, *, machine: bool) -> None:
    """Show a mail and its delivery attempts."""

    async def run() -> None:
        async with open_operation() as conn:
            shown = await read_mail(conn, mail_id)
        log.info("mail shown", actor=ACTOR, mail=str(mail_id))
        (print_json if machine else _print_mail)(shown)

    run_command(run)


@mail.command()
@click.argument("mail_ids", type=click.UUID, nargs=-1)
@click.option("--dead", is_flag=True, help="All mails that were given up and are still wanted.")
@click.option("--reason", help="All mails that bounced or were given up for this reason; see `mail list`.")
@click.option(
    "--words", help="All mails that bounced or were given up with these words in the server's reply."
)
@as_json
def replay(
    mail_ids: Sequence[UUID], *, dead: bool, reason: str | None, words: str | None, machine: bool
) -> None:
    """Send mails again, whatever their state.

    Each gets 48 more hours of attempts from now on. Recipient, link and code stay the same. If the mail server refused
    mails for a day, --reason and --words find those that bounced before the breaker opened.
    """
    many = dead or bool(reason) or bool(words)
    if bool(mail_ids) == many or (dead and (reason or words)):
        raise click.UsageError("Name mails, or use --dead, or --reason and --words.")
    run_command(
        partial(_replay_dead, reason=reason or None, words=words or None, machine=machine)
        if many
        else partial(_act_on, mail_ids, mail_actions.replay_mail, "mail replayed", machine=machine)
    )


@mail.command()
@click.argument("mail_ids", type=click.UUID, nargs=-1, required=True)
@as_json
def cancel(mail_ids: Sequence[UUID], *, machine: bool) -> None:
    """Cancel mails that are queued or delayed."""
    run_command(partial(_act_on, mail_ids, mail_actions.cancel_mail, "mail cancelled", machine=machine))


async def _replay_dead(*, reason: str | None, words: str | None, machine: bool) -> None:
    total = 0
    async with open_operation() as conn:
        while True:
            async with conn.transaction():
                count = await mail_actions.replay_dead(
                    conn, mail_actions.DEAD_AT_ONCE, by_operator(), reason=reason, words=words
                )
            total += count
            if count < mail_actions.DEAD_AT_ONCE:
                break
    log.info("dead mails replayed", actor=ACTOR, count=total)
    if machine:
        print_json({"replayed": total})
    else:
        click.echo(f"{total} replayed")


async def _act_on(mail_ids: Sequence[UUID], act: Act, event: str, *, machine: bool) -> None:
    """Apply an action to each mail. One that it fails for does not keep it from the others."""
    results: list[dict[str, object]] = []
    async with open_operation() as conn:
        for mail_id in mail_ids:
            try:
                async with conn.transaction():
                    await act(conn, mail_id, by_operator())
            except _REFUSALS as error:
                results.append({"id": str(mail_id), "done": False, "code": error.code, "detail": str(error)})
            else:
                log.info(event, actor=ACTOR, mail=str(mail_id))
                results.append({"id": str(mail_id), "done": True})
    if machine:
        print_json(results)
    else:
        for result in results:
            click.echo(
                f"{result['id']}  {event if result['done'] else result['detail']}", err=not result["done"]
            )
    if not all(result["done"] for result in results):
        sys.exit(EX_FAILURE)


def _print_line(found: OutboxMail) -> None:
    shown = show_row(found)
    columns = (
        shown["id"],
        shown["created_at"],
        f"{shown['state']:<9}",
        f"{shown['attempts']:>2}",
        f"{shown['kind']:<12}",
        printable(shown["address"] or "-"),
        printable(shown["reason"]),
    )
    click.echo("  ".join(columns).rstrip())


def _print_mail(shown: Mapping[str, Any]) -> None:
    for name, value in shown.items():
        if name != "tries" and value is not None and value is not False:
            click.echo(f"{name.replace('_', ' '):<19} {printable(value)}")
    for attempt in shown["tries"]:
        said = "  ".join(printable(attempt[key]) for key in ("stage", "reason", "reply") if attempt[key])
        line = f"{attempt['tried_at']}  {attempt['outcome']:<8} {said}".rstrip()
        click.echo(f"{'attempt ' + str(attempt['attempt']):<19} {line}")
