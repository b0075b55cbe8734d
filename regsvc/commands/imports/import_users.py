"""`regsvc users import`: import users of another system with their password hashes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import structlog

from regsvc.accounts.admin.user_actions import NewUser, import_users, list_taken
from regsvc.accounts.audit.record import record
from regsvc.commands.imports.exports import READERS, SYSTEMS, System, read_hash_config
from regsvc.commands.imports.rows import Read, UnreadableFileError, read_rows
from regsvc.commands.imports.table import read_table
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
from regsvc.config.settings import Settings
from regsvc.postgres.connection import Connection

log = structlog.get_logger()

BATCH = 1000  # users per statement
MOST_PROBLEMS = 100  # shown

_file = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("import")
@click.argument("file", type=_file)
@click.option(
    "--from",
    "system",
    type=click.Choice(SYSTEMS),
    help="The system that exported FILE.",
)
@click.option("--hash-config", type=_file, help="Firebase's hash parameters, as its console shows them.")
@click.option("--dry-run", is_flag=True, help="Check every line, but import nothing.")
@click.option("--skip-invalid", is_flag=True, help="Print the invalid lines, and import the others.")
@click.option("--json", "machine", is_flag=True, help="Print JSON.")
def import_(
    file: Path,
    system: System | None,
    hash_config: Path | None,
    *,
    dry_run: bool,
    skip_invalid: bool,
    machine: bool,
) -> None:
    """Import users of another system from FILE.

    Without --from, FILE is CSV in UTF-8 with the names of the columns in the first line: email, name, password_hash,
    and optionally created_at and locale. Hashes may be bcrypt, Argon2, PBKDF2 or scrypt, as that system stores them;
    each is replaced by one of ours when its user logs in.

    With --from, FILE is what that system exports. Users that it does not let in, or whose address it has not
    confirmed, are left out and named.

    Either all users are imported, in one transaction, or none, unless --skip-invalid is given. Exits with 1 if a line
    was invalid. An address that has an account is skipped, so a file can be imported twice.
    """

    async def run() -> None:
        chosen = load_operation()
        read = _read(file, system, hash_config, chosen)
        _print_lines(read.left_out)
        _print_lines(read.problems)
        # --skip-invalid skips lines. A problem of the whole file leaves nothing to import.
        if read.problems and not (skip_invalid and read.users and not read.fails_as_a_whole()):
            click.echo("Nothing was imported.", err=True)
            sys.exit(EX_FAILURE)
        async with open_database(chosen) as conn, conn.transaction():
            taken = await _find_taken(conn, read.users)
            new = 0
            for batch in () if dry_run else _batches(read.users):
                new += await import_users(conn, batch)
            if new:
                await record(conn, "users_imported", by_operator(), count=new)
        log.info("users imported", actor=ACTOR, count=new, known=len(taken), dry_run=dry_run)
        if dry_run:
            new = len(read.users) - len(taken)
        if machine:
            shown = {"imported": 0 if dry_run else new, "would_import": new, "known": taken}
            shown |= {"left_out": read.left_out} if system is not None else {}
            print_json(shown | ({"invalid": read.problems[:MOST_PROBLEMS]} if skip_invalid else {}))
        else:
            _tell(new, taken, read, "would be" if dry_run else "were")
        if read.problems:
            sys.exit(EX_FAILURE)

    run_command(run)


def _read(file: Path, system: System | None, hash_config: Path | None, chosen: Settings) -> Read:
    if system is None:
        return read_rows(read_table(file), chosen.local_domains)
    try:
        parameters = {} if hash_config is None else read_hash_config(hash_config)
    except UnreadableFileError as error:
        return Read(problems=[f"the file {error}"])
    return read_rows(READERS[system](file, parameters), chosen.local_domains)


def _tell(new: int, taken: Sequence[str], read: Read, verb: str) -> None:
    for email in taken:
        click.echo(f"{printable(email)} already has an account", err=True)
    left_out = f", {len(read.left_out)} left out" if read.left_out else ""
    click.echo(f"{new} {verb} imported, {len(taken)} already have an account{left_out}")


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines[:MOST_PROBLEMS]:
        click.echo(printable(line), err=True)
    if len(lines) > MOST_PROBLEMS:
        click.echo(f"and {len(lines) - MOST_PROBLEMS} more", err=True)


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
