"""`regsvc mail feedback` and `regsvc mail suppressed`: bounces from a pipe, and addresses that get no sign-up mail."""

from __future__ import annotations

import sys
from uuid import UUID

import click
import structlog

from regsvc.accounts.address import find_key
from regsvc.accounts.deliveries import suppression
from regsvc.accounts.deliveries.reports import apply_report
from regsvc.commands.runner import (
    ACTOR,
    EX_FAILURE,
    by_operator,
    load_operation,
    open_database,
    open_operation,
    print_json,
    run_command,
)
from regsvc.flows.feedback import get_senders
from regsvc.mail.reports.messages import MAX_BYTES, read_message
from regsvc.parts import make_secrets
from regsvc.schemas.rows import show_row

log = structlog.get_logger()
_MOST = 1000  # entries printed


@click.command()
def feedback() -> None:
    """Take a bounce or abuse report from standard input, as a mail server pipes it in.

    Exits 0 also if the message concerns no mail of ours: a mail server would only return it.
    """

    async def run() -> None:
        chosen = load_operation()
        reports = read_message(sys.stdin.buffer.read(MAX_BYTES + 1))
        async with open_database(chosen) as conn:
            for report in reports:
                async with conn.transaction():
                    outcome = await apply_report(conn, make_secrets(chosen), get_senders(chosen), report)
                log.info("mail reported", source=report.source, report=report.event, outcome=outcome)

    run_command(run)


@click.group()
def suppressed() -> None:
    """Addresses that get no sign-up mail after a bounce or complaint."""


@suppressed.command("list")
@click.option("--json", "machine", is_flag=True, help="Print JSON, as in the API.")
def list_suppressed(*, machine: bool) -> None:
    """List them, the last changed first. Only a MAC of each address is stored."""

    async def run() -> None:
        async with open_operation() as conn:
            found = [show_row(each) for each in await suppression.list_suppressions(conn, _MOST)]
        if machine:
            print_json(found)
            return
        for each in found:
            until = each["complained_until"] or each["bounced_until"]
            click.echo(f"{each['id']}  {each['family']:<9}  {each['bounces']} bounces  until {until}")

    run_command(run)


@suppressed.command("lift")
@click.argument("which")
def lift_suppressed(which: str) -> None:
    """Let sign-up mail through again, by the address or by the id of the entry."""

    async def run() -> None:
        chosen = load_operation()
        async with open_database(chosen) as conn, conn.transaction():
            try:
                if "@" in which:
                    await suppression.lift_address(
                        conn, make_secrets(chosen), find_key(which) or which, by_operator()
                    )
                else:
                    await suppression.lift_suppression(conn, UUID(which), by_operator())
            except (suppression.SuppressionNotFoundError, ValueError):
                click.echo(str(suppression.SuppressionNotFoundError()), err=True)
                sys.exit(EX_FAILURE)
        log.info("suppression lifted", actor=ACTOR)

    run_command(run)
