"""`regsvc users invite`, `invitations` and `revoke-invitation`: who may sign up by a mailed link."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import click
import structlog

from regsvc.accounts.address import AddressError, parse_address
from regsvc.accounts.cursor import Position
from regsvc.accounts.invitations import invitation
from regsvc.accounts.invitations.invitation import Invitation
from regsvc.commands.options import as_json, pages, print_page
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
from regsvc.flows.signup.invitations import InviteBody
from regsvc.flows.signup.invitations import invite as send
from regsvc.mail.message.languages import FALLBACK, LOCALES
from regsvc.schemas.fields import check_values
from regsvc.schemas.rows import show_row

log = structlog.get_logger()


@click.command()
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@click.option(
    "--language",
    type=click.Choice(LOCALES),
    default=FALLBACK,
    show_default=True,
    help="Language of the mail.",
)
@as_json
def invite(addresses: Sequence[str], language: str, *, machine: bool) -> None:
    """Invite addresses to create an account. The link is in the mail alone, and works once, for seven days.

    All are invited, or none if one of them is refused.
    """

    async def run() -> None:
        chosen = load_operation()
        bodies = [
            check_values(InviteBody, {"email": _read(address, chosen.local_domains)}, chosen.local_domains)
            for address in addresses
        ]
        async with open_database(chosen) as conn:
            async with conn.transaction():
                made = [await send(conn, chosen, body, language, by_operator()) for body in bodies]
            shown = [await invitation.get_invitation(conn, each) for each in made]
        if machine:
            print_json({"invitations": [show_row(each) for each in shown]})
            return
        for each in shown:
            _print_line(each)

    run_command(run)


@click.command()
@pages
def invitations(limit: int, after: Position | None, *, machine: bool) -> None:
    """List invitations, the newest first."""

    async def run() -> None:
        async with open_operation() as conn:
            page = await invitation.list_invitations(conn, email_key=None, after=after, limit=limit)
        log.info("invitations listed", actor=ACTOR, count=len(page.rows))
        print_page(page, "invitations", _print_line, machine=machine)

    run_command(run)


@click.command("revoke-invitation")
@click.argument("invitation_id", metavar="ID", type=click.UUID)
def revoke_invitation(invitation_id: UUID) -> None:
    """Revoke an invitation: its link works no more."""

    async def run() -> None:
        async with open_operation() as conn, conn.transaction():
            await invitation.revoke_invitation(conn, invitation_id, by_operator())
        log.info("invitation revoked", actor=ACTOR, invitation=str(invitation_id))

    run_command(run)


COMMANDS = (invite, invitations, revoke_invitation)


def _read(text: str, local_domains: frozenset[str]) -> str:
    try:
        return parse_address(text, local_domains).email
    except AddressError as error:
        raise click.BadParameter(str(error), param_hint="ADDRESS") from error


def _print_line(each: Invitation) -> None:
    words = (each.id, each.state, f"{each.expires_at:%Y-%m-%d}", each.address, each.reason)
    click.echo("  ".join(printable(word) for word in words if word is not None))
