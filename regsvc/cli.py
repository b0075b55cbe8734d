"""The command line. Exit codes: 0 a clean end, 78 (EX_CONFIG of sysexits) a bad configuration, 1 anything else."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import click
import psycopg
import structlog
import trio

from regsvc import __version__, logs, settings
from regsvc.checks import check_dependencies
from regsvc.dev import run_dev
from regsvc.errors import ConfigurationError, RegsvcError
from regsvc.postgres.migrate import migrate as migrate_schema
from regsvc.program import heed_signals, run_service
from regsvc.settings import Settings
from regsvc.supervisor import GaveUpError
from regsvc.watch import watch_registration

log = structlog.get_logger()

EX_FAILURE = 1
EX_CONFIG = 78


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="regsvc")
def main() -> None:
    """Registration, login and e-mail confirmation as one supervised program.

    Settings come from the environment (REGSVC_…); `regsvc dev` needs none.
    """
    logs.catch_strays()


@main.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".regsvc"),
    show_default=True,
    help="Where the database, the secrets and the mail live.",
)
def dev(data: Path) -> None:
    """Run everything here and now, with a database and a mailbox of its own."""
    _run(partial(run_dev, data))


@main.command()
@click.option(
    "--role", type=click.Choice(["all", "api", "worker"]), help="What to run [default: REGSVC_ROLE, or all]."
)
def serve(role: settings.Role | None) -> None:
    """Run in production: all of it, the API, or a worker."""

    async def run() -> None:
        chosen = settings.load(mode="serve", role=role)
        configure_logs(chosen)
        for line in chosen.insecurities():
            log.warning("insecure", setting=line)
        async with trio.open_nursery() as nursery:
            stopping = trio.Event()
            await nursery.start(heed_signals, stopping)
            log.info("starting", role=chosen.role, version=__version__)
            await run_service(chosen, stopping=stopping)
            nursery.cancel_scope.cancel()
        log.info("stopped")

    _run(run)


@main.command()
def migrate() -> None:
    """Bring the database's schema up to this version."""

    async def run() -> None:
        chosen = settings.load(mode="migrate")
        configure_logs(chosen)
        applied = await migrate_schema(chosen.database_url.get_secret_value())
        for name in applied:
            click.echo(f"applied {name}")
        if not applied:
            click.echo("the schema is up to date")

    _run(run)


@main.command()
def check() -> None:
    """Look at the settings, PostgreSQL, RabbitMQ and the mail server; one line each."""

    async def run() -> None:
        chosen = settings.load(mode="check")
        configure_logs(chosen)
        click.echo("settings    ok")
        failed = False
        async for name, trouble in check_dependencies(chosen):
            click.echo(f"{name:<11} {trouble or 'ok'}")
            failed |= trouble is not None
        if failed:
            sys.exit(EX_FAILURE)

    _run(run)


@main.command()
@click.argument("registration_url")
@click.option(
    "--handle", envvar="REGSVC_HANDLE", help="The Regsvc-Handle of the sign-up's answer.", required=True
)
def watch(registration_url: str, handle: str) -> None:
    """Follow a registration until its state is final.

    REGISTRATION_URL is the service's URL and the Location of the sign-up's answer, such as
    http://localhost:8080/api/v1/registrations/…
    """
    _run(partial(watch_registration, registration_url, handle, click.echo))


def configure_logs(chosen: Settings) -> None:
    """Log the way the settings say, and mask their secrets wherever they turn up."""
    logs.configure(
        format=chosen.log_format,
        level=chosen.log_level,
        secrets=chosen.secret_values(),
    )


def _run(command: Callable[[], Awaitable[None]]) -> None:
    """Run a command and turn what it raises into a line for a person and an exit code."""
    try:
        trio.run(command, strict_exception_groups=True)
    except KeyboardInterrupt:
        sys.exit(EX_FAILURE)
    except BaseException as error:  # noqa: BLE001 - the last place to tell a bug from a refusal
        _end(_bare(error))


def _bare(error: BaseException) -> BaseException:
    """Return what a group of one is about."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _end(error: BaseException) -> NoReturn:
    match error:
        case SystemExit() | click.exceptions.Exit() | click.ClickException() | click.Abort():
            raise error
        case ConfigurationError():
            click.echo(f"regsvc: {error}", err=True)
            sys.exit(EX_CONFIG)
        case RegsvcError() | GaveUpError() | psycopg.OperationalError():
            click.echo(f"regsvc: {error}", err=True)
            sys.exit(EX_FAILURE)
        case _:
            log.critical("ended by a bug", exc_info=error)
            sys.exit(EX_FAILURE)
