"""`regsvc keys`: an operator looks at the keys that sign access tokens, makes another one, and withdraws one."""

from __future__ import annotations

import click
import structlog

from regsvc.accounts.admin.key_actions import rotate_keys, withdraw_key
from regsvc.commands.runner import (
    ACTOR,
    by_operator,
    load_operation,
    open_database,
    open_operation,
    print_json,
    run_command,
)
from regsvc.parts import make_secrets
from regsvc.schemas.signing_keys import show_keys
from regsvc.security.key_store import StoredKey, list_keys

log = structlog.get_logger()

as_json = click.option("--json", "machine", is_flag=True, help="For machines, in words of the API.")


@click.group()
def keys() -> None:
    """Signing keys: look at them, make another one, withdraw one. Running processes need no restart."""


@keys.command("list")
@as_json
def list_(*, machine: bool) -> None:
    """List the keys that sign, will sign, or still verify."""

    async def run() -> None:
        async with open_operation() as conn:
            found = await list_keys(conn)
        log.info("signing keys listed", actor=ACTOR, count=len(found))
        _print_keys(found, machine=machine)

    run_command(run)


@keys.command()
@click.option("--now", is_flag=True, help="It signs at once: the one before it is in wrong hands.")
@as_json
def rotate(*, now: bool, machine: bool) -> None:
    """Make another key. It is published now, and signs in twelve minutes in place of those before it.

    By then everybody who keeps the published keys for ten minutes has it. With --now, services that do so and look no
    further refuse new tokens until then; regsvc itself does not.
    """

    async def run() -> None:
        chosen = load_operation()
        async with open_database(chosen) as conn, conn.transaction():
            kid = await rotate_keys(conn, make_secrets(chosen), by_operator(), at_once=now)
            found = await list_keys(conn)
        log.info("signing key added", actor=ACTOR, kid=kid, at_once=now)
        _print_keys(found, machine=machine)

    run_command(run)


@keys.command()
@click.argument("kid")
@as_json
def retire(kid: str, *, machine: bool) -> None:
    """Withdraw a key that does not sign: within a minute every token that it signed is refused.

    Nothing needs this but a key in wrong hands: what a rotation replaces is published until the last token that it
    signed is dead, and then goes by itself.
    """

    async def run() -> None:
        async with open_operation() as conn, conn.transaction():
            await withdraw_key(conn, kid, by_operator())
            found = await list_keys(conn)
        log.info("signing key withdrawn", actor=ACTOR, kid=kid)
        _print_keys(found, machine=machine)

    run_command(run)


def _print_keys(found: list[StoredKey], *, machine: bool) -> None:
    if machine:
        print_json(show_keys(found))
        return
    for key in show_keys(found)["keys"]:
        until = f"  served until {key['served_until']}" if key["served_until"] else ""
        click.echo(f"{key['kid']}  {key['state']:<9}  signs from {key['signs_from']}{until}")
