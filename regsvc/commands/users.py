"""`regsvc users`: create administrators, find users, and act on their accounts."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import get_args
from uuid import UUID

import click
import structlog

from regsvc.accounts.address import Address, AddressError, find_key, parse_address
from regsvc.accounts.admin import user_actions, user_search
from regsvc.accounts.admin.user_actions import NewUser, add_user
from regsvc.accounts.admin.user_search import Filters, Person, find_person, get_person
from regsvc.accounts.audit.record import By
from regsvc.accounts.cursor import Position
from regsvc.accounts.name import NameInvalidError, check_name
from regsvc.accounts.registrations.activation import activate_by_hand
from regsvc.accounts.users.user import LastAdminError, UserNotFoundError
from regsvc.commands.address_collisions import collisions
from regsvc.commands.imports.import_users import import_
from regsvc.commands.invitations import COMMANDS as INVITATIONS
from regsvc.commands.options import as_json, pages, print_page
from regsvc.commands.runner import (
    ACTOR,
    EX_FAILURE,
    by_operator,
    load_operation,
    open_database,
    open_operation,
    print_json,
    printable,
    run_command,
)
from regsvc.config.settings import Settings
from regsvc.errors import WeakPasswordError
from regsvc.mail.message.languages import FALLBACK
from regsvc.parts import make_secrets
from regsvc.postgres.connection import Connection
from regsvc.schemas.rows import show_row
from regsvc.security.passwords import HashingLane
from regsvc.security.policy import find_weaknesses

log = structlog.get_logger()

Act = Callable[[Connection, UUID, By], Awaitable[object]]

_REFUSALS = (UserNotFoundError, LastAdminError)

who = click.argument("who", nargs=-1, required=True)


@click.group()
def users() -> None:
    """Users: create administrators, import, find, disable and delete users. WHO is an id or an email address."""


users.add_command(import_)
users.add_command(collisions)
for command in INVITATIONS:
    users.add_command(command)


@users.command("create-admin")
@click.argument("address")
@click.option("--name", default="Administrator", show_default=True)
@click.option("--generate", is_flag=True, help="Generate a password, and print it once.")
@as_json
def create_admin(address: str, name: str, *, generate: bool, machine: bool) -> None:
    """Create an administrator for an address without an account.

    The password is asked for on a terminal, and otherwise read from the first line of standard input. To make an
    existing user an administrator, use `regsvc users role`.
    """
    if find_key(address) is None:
        raise click.BadParameter("This is not an email address.", param_hint="ADDRESS")
    try:
        name = check_name(name)
    except NameInvalidError as error:
        raise click.BadParameter(str(error), param_hint="--name") from error
    password = secrets.token_urlsafe(18) if generate else _ask_password()

    async def run() -> None:
        chosen = load_operation()
        try:
            email = parse_address(address, chosen.local_domains)
        except AddressError as error:
            raise click.BadParameter(str(error), param_hint="ADDRESS") from error
        user_id = await _create_admin(chosen, email, name, password)
        log.info("account created", actor=ACTOR, user=str(user_id), role="admin")
        shown = {"id": str(user_id), "email": email.email} | ({"password": password} if generate else {})
        if machine:
            print_json(shown)
        else:
            click.echo("  ".join(printable(text) for text in shown.values()))

    run_command(run)


@users.command("list")
@click.option("--search", help="Only users whose address or name begins with this.")
@click.option("--role", type=click.Choice(get_args(user_search.Role)), help="Only users with this role.")
@click.option("--state", type=click.Choice(get_args(user_search.Standing)), help="Only users in this state.")
@pages
def list_(
    search: str | None,
    role: user_search.Role | None,
    state: user_search.Standing | None,
    limit: int,
    after: Position | None,
    *,
    machine: bool,
) -> None:
    """List users, the newest first."""

    async def run() -> None:
        async with open_operation() as conn:
            page = await user_search.list_people(conn, Filters(search, role, state), after=after, limit=limit)
        log.info("users listed", actor=ACTOR, count=len(page.rows))
        print_page(page, "users", _print_line, machine=machine)

    run_command(run)


@users.command()
@click.argument("who")
@as_json
def show(who: str, *, machine: bool) -> None:
    """Show a user."""

    async def run() -> None:
        async with open_operation() as conn:
            person = await find_person(conn, who)
        log.info("user shown", actor=ACTOR, user=str(person.id))
        if machine:
            print_json(show_row(person))
            return
        for name, value in show_row(person).items():
            if value is not None:
                click.echo(f"{name.replace('_', ' '):<13} {printable(value)}")

    run_command(run)


@users.command()
@click.argument("role", type=click.Choice(get_args(user_search.Role)))
@who
@as_json
def role(role: user_search.Role, who: Sequence[str], *, machine: bool) -> None:
    """Make users administrators, or plain users again. They have to log in again."""

    async def act(conn: Connection, user_id: UUID, by: By) -> None:
        await user_actions.set_role(conn, user_id, role, by)

    run_command(partial(_act_on, who, act, "role changed", machine=machine))


@users.command()
@who
@as_json
def disable(who: Sequence[str], *, machine: bool) -> None:
    """Stop users from logging in, and end their sessions."""
    run_command(partial(_act_on, who, user_actions.disable_user, "user disabled", machine=machine))


@users.command()
@who
@as_json
def enable(who: Sequence[str], *, machine: bool) -> None:
    """Allow users to log in again."""
    run_command(partial(_act_on, who, user_actions.enable_user, "user enabled", machine=machine))


@users.command("end-sessions")
@who
@as_json
def end_sessions(who: Sequence[str], *, machine: bool) -> None:
    """End all sessions of users."""
    run_command(partial(_act_on, who, user_actions.end_user_sessions, "sessions ended", machine=machine))


@users.command("reset-factors")
@who
@as_json
def reset_factors(who: Sequence[str], *, machine: bool) -> None:
    """Remove the authenticator app, recovery codes and passkeys of users who lost them, and notify the users."""
    run_command(partial(_act_on, who, user_actions.reset_factors, "factors reset", machine=machine))


@users.command()
@who
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def delete(who: Sequence[str], *, yes: bool, machine: bool) -> None:
    """Permanently delete accounts and the personal data of their users."""
    if not yes:
        click.confirm(f"Permanently delete {', '.join(map(printable, who))}?", abort=True, err=True)

    async def run() -> None:
        chosen = load_operation()

        async def act(conn: Connection, user_id: UUID, by: By) -> None:
            await user_actions.delete_user(conn, make_secrets(chosen), user_id, by)

        await _act_on(who, act, "account deleted", machine=machine, chosen=chosen)

    run_command(run)


@users.command()
@click.argument("registration_id", type=click.UUID)
@as_json
def confirm(registration_id: UUID, *, machine: bool) -> None:
    """Activate a pending registration, after checking its address in another way."""

    async def run() -> None:
        async with open_operation() as conn, conn.transaction():
            user_id = await activate_by_hand(conn, registration_id, by_operator())
            person = await get_person(conn, user_id)
        log.info("address confirmed", actor=ACTOR, registration=str(registration_id), by="hand")
        if machine:
            print_json(show_row(person))
        else:
            _print_line(person)

    run_command(run)


def _ask_password() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return password
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise click.UsageError("Give the password on standard input, or use --generate.")
    return line


async def _create_admin(chosen: Settings, email: Address, name: str, password: str) -> UUID:
    weaknesses = await find_weaknesses(chosen, password, email=email.email, name=name)
    if weaknesses:
        raise WeakPasswordError(" ".join(weakness.detail for weakness in weaknesses))
    pepper, peppers = make_secrets(chosen).peppers()
    async with (
        HashingLane(cost=chosen.bcrypt_cost, pepper=pepper, peppers=peppers, threads=1) as lane,
        open_database(chosen) as conn,
    ):
        new = NewUser(email.email, email.key, name, FALLBACK, "admin", await lane.hash(password))
        async with conn.transaction():
            return await add_user(conn, new, by_operator())


async def _act_on(
    who: Sequence[str], act: Act, event: str, *, machine: bool, chosen: Settings | None = None
) -> None:
    """Apply an action to each user. One that it fails for does not keep it from the others."""
    results: list[dict[str, object]] = []
    async with open_database(chosen or load_operation()) as conn:
        for text in who:
            try:
                async with conn.transaction():
                    user_id = (await find_person(conn, text)).id
                    await act(conn, user_id, by_operator())
            except _REFUSALS as error:
                results.append({"who": text, "done": False, "code": error.code, "detail": str(error)})
            else:
                log.info(event, actor=ACTOR, user=str(user_id))
                results.append({"who": text, "done": True, "id": str(user_id)})
    if machine:
        print_json(results)
    else:
        for result in results:
            said = event if result["done"] else result["detail"]
            click.echo(f"{printable(result['who'])}  {said}", err=not result["done"])
    if not all(result["done"] for result in results):
        sys.exit(EX_FAILURE)


def _print_line(person: Person) -> None:
    shown = show_row(person)
    fixed = (shown["id"], shown["created_at"], f"{shown['role']:<5}", f"{shown['state']:<8}")
    click.echo("  ".join((*fixed, printable(shown["email"]), printable(shown["name"]))))
