"""`regsvc check`: look at everything that `serve` will need, before it does."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import click

from regsvc.checks import Report, check_dependencies, check_settings
from regsvc.commands.runner import EX_CONFIG, EX_FAILURE, configure_logs, print_json, run_command
from regsvc.config import loading
from regsvc.errors import ConfigurationError


@click.command()
@click.option("--json", "machine", is_flag=True, help="For machines.")
def check(*, machine: bool) -> None:
    """Prove that the settings, PostgreSQL, RabbitMQ and the mail server are fit for `serve`; one line each.

    Exits with 78 if an operator has to change something, and with 1 if something does not answer.
    """

    async def run() -> None:
        reports: list[Report] = []
        async for report in _check_all(machine=machine):
            reports.append(report)
            if not machine:
                click.echo(report.line())
        if machine:
            print_json([report.show() for report in reports])
        if any(report.misconfigured for report in reports):
            sys.exit(EX_CONFIG)
        if any(report.unavailable for report in reports):
            sys.exit(EX_FAILURE)

    run_command(run)


async def _check_all(*, machine: bool) -> AsyncIterator[Report]:
    """Yield one report after the other; unusable settings are a report for machines, and else an error."""
    try:
        chosen = loading.load(mode="check")
    except ConfigurationError as error:
        if not machine:
            raise
        _, *lines = str(error).splitlines()
        yield Report("settings", misconfigured=[line.strip() for line in lines])
        return
    configure_logs(chosen)
    yield check_settings(chosen)
    async for report in check_dependencies(chosen):
        yield report
