"""`regsvc tokens`: create, list and revoke the tokens by which other services call the API."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import click
import structlog

from regsvc.accounts.service_tokens import service_token
from regsvc.accounts.service_tokens.service_token import SCOPES, Scope, ServiceToken
from regsvc.commands.options import as_json
from regsvc.commands.runner import (
    ACTOR,
    by_operator,
    load_operation,
    open_database,
    open_operation,
    print_json,
    printable,
    run_command,
)
from regsvc.schemas.rows import show_row

log = structlog.get_logger()

_LONGEST_NAME = 100
_LONGEST_LIFE = 3650  # days


@click.group()
def tokens() -> None:
    """Service tokens: what other services call the API with in their own name. Only these commands make one."""


@tokens.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What the service may do; repeat it for several.",
)
@click.option(
    "--days",
    type=click.IntRange(1, _LONGEST_LIFE),
    default=365,
    show_default=True,
    help="Days after which the token ends.",
)
@click.option("--no-expiry", is_flag=True, help="The token ends only when it is revoked.")
@as_json
def create(name: str, scopes: tuple[Scope, ...], days: int, *, no_expiry: bool, machine: bool) -> None:
    """Create a token, and print it once. NAME says what it is for.

    Only its digest is stored, so it cannot be shown again. No scope reaches tokens, roles or signing keys.
    """
    name = name.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise click.BadParameter(f"Use 1 to {_LONGEST_NAME} printable characters.", param_hint="NAME")

    async def run() -> None:
        life = None if no_expiry else timedelta(days=days)
        async with open_database(load_operation()) as conn, conn.transaction():
            created, text = await service_token.create_token(conn, name, scopes, life, by_operator())
        log.info("service token created", actor=ACTOR, id=str(created.id), scopes=list(created.scopes))
        if machine:
            print_json({**show_row(created), "token": text})
            return
        click.echo(text)
        click.echo(_describe(created), err=True)
        click.echo("This is the only time that the token is shown.", err=True)

    run_command(run)


@tokens.command("list")
@as_json
def list_(*, machine: bool) -> None:
    """List the tokens, the newest first, also those that have expired or were revoked."""

    async def run() -> None:
        async with open_operation() as conn:
            found = await service_token.list_tokens(conn)
        if machine:
            print_json({"tokens": [show_row(each) for each in found]})
            return
        for each in found:
            click.echo(_describe(each))

    run_command(run)


@tokens.command()
@click.argument("token_id", type=click.UUID)
def revoke(token_id: UUID) -> None:
    """Revoke a token by its id. It is refused from the next request on."""

    async def run() -> None:
        async with open_database(load_operation()) as conn, conn.transaction():
            await service_token.revoke_token(conn, token_id, by_operator())
        log.info("service token revoked", actor=ACTOR, id=str(token_id))

    run_command(run)


def _describe(token: ServiceToken) -> str:
    shown = show_row(token)
    state = "no expiry" if token.expires_at is None else f"until {shown['expires_at']}"
    if token.revoked_at is not None:
        state = f"revoked {shown['revoked_at']}"
    used = "never used" if token.last_used_at is None else f"last used {shown['last_used_at']}"
    return f"{token.id}  {printable(token.name)}  {' '.join(token.scopes)}  {state}  {used}"
