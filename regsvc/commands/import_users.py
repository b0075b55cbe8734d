"""`regsvc users import`: import users of another system with their password hashes, from a table."""

from __future__ import annotations

import csv
import sys
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import click
import structlog
from pydantic import AfterValidator, BeforeValidator, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from regsvc.accounts.admin.user_actions import NewUser, import_users, list_taken
from regsvc.accounts.audit.record import record
from regsvc.commands.runner import (
    ACTOR,
    EX_FAILURE,
    by_operator,
    load_operation,
    open_database,
    print_json,
    printable,
    run_command,
)
from regsvc.mail.message.languages import FALLBACK, LOCALES
from regsvc.postgres.connection import Connection
from regsvc.schemas.fields import Body, EmailText, NameText, address_of
from regsvc.security.passwords import is_migrated_hash

log = structlog.get_logger()

BATCH = 1000  # users per statement
MOST_PROBLEMS = 100  # shown
_NEEDED = {"email", "name", "password_hash"}


def _check_hash(text: str) -> str:
    if not is_migrated_hash(text):
        raise PydanticCustomError("hash", "must be bcrypt ($2a$, $2b$ or $2y$) with a cost of 4 to 15")
    return text


def _check_locale(text: str) -> str:
    if text not in LOCALES:
        raise PydanticCustomError("locale", "must be one of {locales}", {"locales": ", ".join(LOCALES)})
    return text


def _read_moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or moment > datetime.now(UTC):
        raise PydanticCustomError("moment", "must be a time in the past, such as 2020-02-29T12:00:00Z")
    return moment


class Row(Body):
    """A row of the table."""

    email: EmailText
    name: NameText
    password_hash: Annotated[str, StringConstraints(max_length=60), AfterValidator(_check_hash)]
    created_at: Annotated[datetime, BeforeValidator(_read_moment)] | None = None
    locale: Annotated[str, AfterValidator(_check_locale)] = FALLBACK


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Check every line, but import nothing.")
@click.option("--skip-invalid", is_flag=True, help="Print the invalid lines, and import the others.")
@click.option("--json", "machine", is_flag=True, help="Print JSON.")
def import_(file: Path, *, dry_run: bool, skip_invalid: bool, machine: bool) -> None:
    """Import users of another system from FILE: CSV in UTF-8, with the names of the columns in the first line.

    Columns are email, name and password_hash (bcrypt as stored there: $2a$, $2b$ or $2y$), and optionally created_at
    and locale. Either all users are imported, or none, unless --skip-invalid is given. Exits with 1 if a line was
    invalid. An address that has an account is skipped, so a file can be imported twice.
    """

    async def run() -> None:
        chosen = load_operation()
        users, problems = read_users(file, chosen.local_domains)
        _print_problems(problems)
        # --skip-invalid skips lines. A problem of the whole file leaves nothing to import.
        if problems and not (skip_invalid and users and all(it.startswith("line") for it in problems)):
            click.echo("Nothing was imported.", err=True)
            sys.exit(EX_FAILURE)
        async with open_database(chosen) as conn, conn.transaction():
            taken = await _find_taken(conn, users)
            new = 0
            for batch in () if dry_run else _batches(users):
                new += await import_users(conn, batch)
            if new:
                await record(conn, "users_imported", by_operator(), count=new)
        log.info("users imported", actor=ACTOR, count=new, known=len(taken), dry_run=dry_run)
        if dry_run:
            new = len(users) - len(taken)
        if machine:
            imported = 0 if dry_run else new
            skipped = {"invalid": problems[:MOST_PROBLEMS]} if skip_invalid else {}
            print_json({"imported": imported, "would_import": new, "known": taken, **skipped})
        else:
            for email in taken:
                click.echo(f"{printable(email)} already has an account", err=True)
            click.echo(
                f"{new} {'would be' if dry_run else 'were'} imported, {len(taken)} already have an account"
            )
        if problems:
            sys.exit(EX_FAILURE)

    run_command(run)


def _print_problems(problems: Sequence[str]) -> None:
    for problem in problems[:MOST_PROBLEMS]:
        click.echo(printable(problem), err=True)
    if len(problems) > MOST_PROBLEMS:
        click.echo(f"and {len(problems) - MOST_PROBLEMS} more", err=True)


def read_users(file: Path, local_domains: Collection[str] = ()) -> tuple[list[NewUser], list[str]]:
    """Return the users of a table, and all problems in it, each with its line number.

    Args:
        file: the table.
        local_domains: as for `parse_address`.
    """
    users: dict[str, NewUser] = {}
    problems: list[str] = []
    try:
        for line, row in _read_rows(file, problems, local_domains):
            key = address_of(row.email).key
            if key in users:
                problems.append(f"line {line}: email: the address occurs twice")
                continue
            users[key] = NewUser(
                email=address_of(row.email).email,
                email_key=key,
                name=row.name,
                locale=row.locale,
                role="user",
                password_hash=row.password_hash,
                created_at=row.created_at,
            )
    except UnicodeDecodeError:
        problems.append("the file is not UTF-8")
    except csv.Error as error:
        problems.append(f"the file is not CSV: {error}")
    return list(users.values()), problems


def _read_rows(file: Path, problems: list[str], local_domains: Collection[str]) -> Iterator[tuple[int, Row]]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        table = csv.DictReader(text, strict=True, restkey="", restval=None)
        columns = table.fieldnames or []
        if len(set(columns)) != len(columns) or not _NEEDED <= set(columns) <= set(Row.model_fields):
            problems.append(
                f"line 1: the columns must be {', '.join(sorted(_NEEDED))}, and optionally created_at and locale"
            )
            return
        for values in table:
            line = table.line_num
            if "" in values or None in values.values():
                problems.append(f"line {line}: its number of columns differs from line 1")
                continue
            try:
                yield (
                    line,
                    Row.model_validate(
                        {name: text for name, text in values.items() if text},
                        context={"local_domains": local_domains},
                    ),
                )
            except ValidationError as error:
                problems += [
                    f"line {line}: {problem['loc'][0]}: {problem['msg']}"
                    for problem in error.errors(include_url=False, include_input=False, include_context=False)
                ]


async def _find_taken(conn: Connection, users: list[NewUser]) -> list[str]:
    """Return the addresses that have an account, in the order of the file."""
    taken = []
    for batch in _batches(users):
        keys = await list_taken(conn, [user.email_key for user in batch])
        taken += [user.email for user in batch if user.email_key in keys]
    return taken


def _batches(users: list[NewUser]) -> Iterator[list[NewUser]]:
    for start in range(0, len(users), BATCH):
        yield users[start : start + BATCH]
