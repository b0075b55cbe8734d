"""`regsvc keys`: list, rotate and withdraw the keys that sign access tokens."""

from __future__ import annotations

import click
import structlog

from regsvc.accounts.admin.key_actions import rotate_keys, withdraw_key
from regsvc.commands.options import as_json
from regsvc.commands.runner import (
    ACTOR,
    by_operator,
    load_operation,
    open_database,
    open_operation,
    print_json,
    run_command,
)
from regsvc.flows.resealing import reseal_all
from regsvc.parts import make_secrets
from regsvc.schemas.signing_keys import show_keys
from regsvc.security.signing.key_store import StoredKey, list_keys

log = structlog.get_logger()


@click.group()
def keys() -> None:
    """Signing keys: list, rotate and withdraw them. Running processes need no restart."""


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
@click.option("--now", is_flag=True, help="Sign at once, because the previous key has leaked.")
@as_json
def rotate(*, now: bool, machine: bool) -> None:
    """Create a key. It is published now, and replaces the signing key in twelve minutes.

    By then every client that caches published keys for ten minutes has it. With --now, services that do so refuse new
    tokens until then, unless they reload the keys for an unknown one; regsvc itself accepts them.
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
    """Withdraw a key that does not sign: within a minute all its tokens are refused.

    This is only needed for a leaked key. A rotated key is published until the last token that it signed has expired,
    and is then deleted automatically.
    """

    async def run() -> None:
        async with open_operation() as conn, conn.transaction():
            await withdraw_key(conn, kid, by_operator())
            found = await list_keys(conn)
        log.info("signing key withdrawn", actor=ACTOR, kid=kid)
        _print_keys(found, machine=machine)

    run_command(run)


@keys.command("reseal")
@as_json
def reseal_values(*, machine: bool) -> None:
    """Seal everything with REGSVC_SECRET_KEY that REGSVC_SECRET_KEY_PREVIOUS had sealed, before that one is dropped."""

    async def run() -> None:
        chosen = load_operation()
        async with open_database(chosen) as conn:
            found = await reseal_all(conn, make_secrets(chosen), by_operator())
        log.info("values resealed", actor=ACTOR, sealed=sum(each.sealed for each in found.values()))
        if machine:
            print_json({name: vars(each) for name, each in found.items()})
        for name, each in found.items() if not machine else ():
            lost = f", {each.lost} sealed with a key that is not here" if each.lost else ""
            click.echo(f"{name}: {each.sealed} resealed{lost}")

    run_command(run)


def _print_keys(found: list[StoredKey], *, machine: bool) -> None:
    if machine:
        print_json(show_keys(found))
        return
    for key in show_keys(found)["keys"]:
        until = f"  served until {key['served_until']}" if key["served_until"] else ""
        click.echo(
            f"{key['kid']}  {key['algorithm']}  {key['state']:<9}  signs from {key['signs_from']}{until}"
        )
