"""`regsvc check`: check everything that `serve` will need, before it starts."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import click

from regsvc.checks import Report, check_dependencies, check_settings
from regsvc.checks.mail.all_checks import check_mail
from regsvc.commands.runner import EX_CONFIG, EX_FAILURE, configure_logs, print_json, run_command
from regsvc.config import loading
from regsvc.errors import ConfigurationError


@click.command()
@click.option("--json", "machine", is_flag=True, help="Print JSON.")
@click.option(
    "--mail", "mail", is_flag=True, help="Check what receivers look up: SPF, DKIM, DMARC, return path."
)
def check(*, machine: bool, mail: bool) -> None:
    """Check that the settings, PostgreSQL, RabbitMQ and the mail server are ready for `serve`; one line each.

    With --mail, check the DNS records of our mail instead, each with the record to add.

    Exits with 78 if the configuration must be changed, and with 1 if a dependency does not answer.
    """

    async def run() -> None:
        reports: list[Report] = []
        async for report in _check_all(machine=machine, mail=mail):
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


async def _check_all(*, machine: bool, mail: bool) -> AsyncIterator[Report]:
    """Yield one report after the other. Invalid settings are a report in JSON, otherwise an error."""
    try:
        chosen = loading.load(mode="check")
    except ConfigurationError as error:
        if not machine:
            raise
        _, *lines = str(error).splitlines()
        yield Report("settings", misconfigured=[line.strip() for line in lines])
        return
    configure_logs(chosen)
    if mail:
        async for report in check_mail(chosen):
            yield report
        return
    yield check_settings(chosen)
    async for report in check_dependencies(chosen):
        yield report
