"""The command line."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from regsvc import __version__, logs
from regsvc.commands.runner import EX_FAILURE, configure_logs, run_command
from regsvc.config import loading

_ELSEWHERE = {
    name: f"regsvc.commands.{name}"
    for name in ("check", "keys", "mail", "selftest", "serve", "tokens", "users", "verify")
} | {
    "events": "regsvc.commands.events.replay",
    "webhooks": "regsvc.commands.events.webhooks",
}
"""The module of each command that is imported when it is run: a service loads none of them."""


class _Program(click.Group):
    """The group of commands. Exit with 1 on a usage error: click's own 2 is not among the documented exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(ctx), *_ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, importing it if it is of another module."""
        if cmd_name in _ELSEWHERE:
            command: click.Command = getattr(import_module(_ELSEWHERE[cmd_name]), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except SystemExit as end:
            if end.code == click.UsageError.exit_code:
                end.code = EX_FAILURE
            raise


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="regsvc")
def main() -> None:
    """Registration, login and email confirmation as one supervised program.

    Settings come from the environment (REGSVC_…); `regsvc dev` needs none.
    """
    logs.catch_strays()


@main.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".regsvc"),
    show_default=True,
    help="Where the database, the secrets and the mailbox are kept.",
)
def dev(data: Path) -> None:
    """Run the whole service on this machine, with its own database and mailbox."""
    from regsvc.dev import run_dev  # noqa: PLC0415 - other commands do without

    run_command(partial(run_dev, data))


@main.command()
def migrate() -> None:
    """Migrate the database schema to this version."""
    from regsvc.accounts.address_keys import bring_up  # noqa: PLC0415 - as above

    async def run() -> None:
        chosen = loading.load(mode="migrate")
        configure_logs(chosen)
        applied = await bring_up(chosen.database_url.get_secret_value())
        for name in applied:
            click.echo(f"applied {name}")
        if not applied:
            click.echo("the schema is up to date")

    run_command(run)


@main.command()
@click.argument("registration_url")
@click.option(
    "--handle",
    envvar="REGSVC_HANDLE",
    show_envvar=True,
    help="The Regsvc-Handle from the response to the sign-up.",
    required=True,
)
def watch(registration_url: str, handle: str) -> None:
    """Follow a registration until its state is final.

    REGISTRATION_URL is the service's URL followed by the Location from the response to the sign-up, such as
    http://localhost:8080/api/v1/registrations/…
    """
    from regsvc.watch import watch_registration  # noqa: PLC0415 - it has a websocket client of its own

    run_command(partial(watch_registration, registration_url, handle, click.echo))
