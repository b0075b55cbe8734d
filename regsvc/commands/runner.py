"""Run a command: its settings, log, database connection and exit code.

Exit codes: 0 for success, 78 (EX_CONFIG of sysexits) for an invalid configuration, 1 for anything else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NoReturn
from uuid import uuid4

import click
import psycopg
import structlog
import trio

from regsvc import logs
from regsvc.accounts.audit.record import By
from regsvc.config import loading
from regsvc.config.settings import Settings
from regsvc.errors import ConfigurationError, RegsvcError
from regsvc.logs.streams import finish_streams
from regsvc.postgres.connection import Connection
from regsvc.postgres.schema import check_schema
from regsvc.postgres.session import BY_HAND
from regsvc.supervisor import GaveUpError

log = structlog.get_logger()

EX_FAILURE = 1
EX_CONFIG = 78
ACTOR = "cli"  # the actor of an operator's command in the log
_CONNECTING = 10.0  # seconds


def run_command(command: Callable[[], Awaitable[None]]) -> None:
    """Run a command. Print an error as one line and exit with its code."""
    try:
        trio.run(command, strict_exception_groups=True)
    except KeyboardInterrupt:
        sys.exit(EX_FAILURE)
    except BaseException as error:  # noqa: BLE001 - the last place to tell a bug from a refusal
        _end(_bare(error))
    finally:
        logs.drain()
        finish_streams()


def configure_logs(chosen: Settings) -> None:
    """Configure the log as the settings say, and mask their secrets in it."""
    logs.configure(format=chosen.log_format, level=chosen.log_level, secrets=chosen.secret_values())


def load_operation() -> Settings:
    """Return the settings of an operator's command, and bind a new request id to the log.

    Raises:
        ConfigurationError: they are invalid.
    """
    chosen = loading.load(mode="operate")
    configure_logs(chosen)
    structlog.contextvars.bind_contextvars(request_id=uuid4().hex)
    return chosen


@asynccontextmanager
async def open_operation() -> AsyncIterator[Connection]:
    """Yield a connection for an operator's command.

    Raises:
        ConfigurationError: the settings are invalid, or the database has a different schema.
        psycopg.OperationalError: the database is unreachable.
    """
    async with open_database(load_operation()) as conn:
        yield conn


@asynccontextmanager
async def open_database(chosen: Settings) -> AsyncIterator[Connection]:
    """Yield a connection to the database of these settings.

    Raises:
        ConfigurationError: the database has a different schema.
        psycopg.OperationalError: the database is unreachable.
    """
    async with await Connection.connect(
        chosen.database_url.get_secret_value(),
        timeout=_CONNECTING,
        application_name="regsvc operator",
        limits=BY_HAND,
    ) as conn:
        if newer := await check_schema(conn):
            log.warning("schema is newer than this program, but compatible", newer=newer)
        yield conn


def by_operator() -> By:
    """Return the audit actor for an operator's command. Its request id links it to the log."""
    return By("operator", request_id=structlog.contextvars.get_contextvars()["request_id"])


def print_json(value: object) -> None:
    """Print a value as JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def printable(text: object) -> str:
    """Return a text that is safe to print on a terminal: another person's text must not move the cursor."""
    shown = "" if text is None else str(text)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def _bare(error: BaseException) -> BaseException:
    """Return the only error of a group, or the error itself."""
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
        case BrokenPipeError():  # the reader, such as `head`, has stopped reading
            sys.exit(EX_FAILURE)
        case RegsvcError() | GaveUpError() | psycopg.OperationalError():
            click.echo(f"regsvc: {error}", err=True)
            sys.exit(EX_FAILURE)
        case _:
            log.critical("ended by a bug", exc_info=error)
            sys.exit(EX_FAILURE)
