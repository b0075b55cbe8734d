"""`regsvc verify`: whether everything in a database opens with the secret that is set."""

from __future__ import annotations

import sys

import click
import structlog

from regsvc.commands.runner import ACTOR, EX_FAILURE, load_operation, open_database, print_json, run_command
from regsvc.flows.verification import Count, count_all
from regsvc.parts import make_secrets
from regsvc.schemas.rows import show_row

log = structlog.get_logger()


@click.command()
@click.option("--json", "machine", is_flag=True, help="Print JSON.")
def verify(*, machine: bool) -> None:
    """Open everything in the database that is sealed, and count what hangs on which secret.

    For a restored database: exits with 1 if anything opens with neither REGSVC_SECRET_KEY nor
    REGSVC_SECRET_KEY_PREVIOUS. Changes nothing. What hangs on the previous secret is sealed again at its use or by
    `regsvc keys reseal`; password hashes only at a login.
    """

    async def run() -> None:
        chosen = load_operation()
        async with open_database(chosen) as conn:
            counts = await count_all(conn, make_secrets(chosen))
        lost = sum(count.lost for count in counts)
        log.info("database verified", actor=ACTOR, lost=lost)
        if machine:
            print_json({"kept": [show_row(count) for count in counts]})
        else:
            _print_counts(counts)
        if lost:
            sys.exit(EX_FAILURE)

    run_command(run)


def _print_counts(counts: list[Count]) -> None:
    for count in counts:
        line = f"{count.name:<32} {count.current:>9} open with the secret"
        if count.previous:
            line += f", {count.previous} only with the previous one"
        if count.lost:
            line += f", {count.lost} WITH NEITHER"
        click.echo(line)
