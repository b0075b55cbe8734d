"""`regsvc users collisions`: accounts whose address keys were shared with other mailboxes, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from uuid import UUID

import click
import structlog

from regsvc.accounts import address_keys
from regsvc.accounts.admin.address_findings import Finding, dismiss_findings, list_findings
from regsvc.commands.runner import ACTOR, open_operation, print_json, printable, run_command

log = structlog.get_logger()

_ADVICE = {
    "shared": "others had its key and may have confirmed it: ask its owner, or disable it until a password reset",
    "collides": "another account has the same mailbox: delete one of them, then run this with --recompute",
}


@click.command()
@click.option("--recompute", is_flag=True, help="Check all addresses again first.")
@click.option(
    "--dismiss", type=click.UUID, multiple=True, metavar="USER", help="Dismiss the findings of this user."
)
@click.option("--json", "machine", is_flag=True, help="Print JSON.")
def collisions(*, recompute: bool, dismiss: Sequence[UUID], machine: bool) -> None:
    """List accounts whose address once had the same key as another mailbox."""

    async def run() -> None:
        async with open_operation() as conn:
            if recompute:
                await address_keys.schedule_recomputing(conn)
                await address_keys.recompute_keys(conn)
            if dismiss:
                await dismiss_findings(conn, dismiss)
            found = await list_findings(conn)
        log.info("address collisions listed", actor=ACTOR, count=len(found))
        if machine:
            print_json(
                [
                    {**asdict(it), "user_id": str(it.user_id), "found_at": it.found_at.isoformat()}
                    for it in found
                ]
            )
            return
        for finding in found:
            _print(finding)

    run_command(run)


def _print(finding: Finding) -> None:
    click.echo(f"{finding.finding:<8}  {finding.user_id}  {printable(finding.email)}")
    for other in finding.others:
        click.echo(f"    {other['kind']}  {other['id']}  {printable(other['email'])}  {other['state']}")
    click.echo(f"    {_ADVICE[finding.finding]}")
