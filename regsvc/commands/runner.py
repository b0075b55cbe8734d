"""How a command runs: its settings and log, its connection to the database, and the exit code that it ends with.

Exit codes: 0 a clean end, 78 (EX_CONFIG of sysexits) a bad configuration, 1 anything else.
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
ACTOR = "cli"  # who the log says did what an operator typed
_CONNECTING = 10.0  # seconds


def run_command(command: Callable[[], Awaitable[None]]) -> None:
    """Run a command and turn what it raises into a line for a person and an exit code."""
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
    """Log the way the settings say, and mask their secrets wherever they turn up."""
    logs.configure(format=chosen.log_format, level=chosen.log_level, secrets=chosen.secret_values())


def load_operation() -> Settings:
    """Return the settings of an operator's command; what it logs from now on has a request id of its own.

    Raises:
        ConfigurationError: they are not usable.
    """
    chosen = loading.load(mode="operate")
    configure_logs(chosen)
    structlog.contextvars.bind_contextvars(request_id=uuid4().hex)
    return chosen


@asynccontextmanager
async def open_operation() -> AsyncIterator[Connection]:
    """Hold a connection for an operator's command.

    Raises:
        ConfigurationError: the settings are not usable, or the database has another schema.
        psycopg.OperationalError: it is out of reach.
    """
    async with open_database(load_operation()) as conn:
        yield conn


@asynccontextmanager
async def open_database(chosen: Settings) -> AsyncIterator[Connection]:
    """Hold a connection to the database of these settings.

    Raises:
        ConfigurationError: the database has another schema.
        psycopg.OperationalError: it is out of reach.
    """
    async with await Connection.connect(
        chosen.database_url.get_secret_value(),
        timeout=_CONNECTING,
        application_name="regsvc operator",
        limits=BY_HAND,
    ) as conn:
        if newer := await check_schema(conn):
            log.warning("schema is newer than this program, and serves it", newer=newer)
        yield conn


def by_operator() -> By:
    """Return that whoever typed the command does it, as the audit log has it; the log knows the command by its id."""
    return By("operator", request_id=structlog.contextvars.get_contextvars()["request_id"])


def print_json(value: object) -> None:
    """Print a value for a machine to read."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def printable(text: object) -> str:
    """Return a text as it may stand on a terminal: what somebody else sent does not move its cursor."""
    shown = "" if text is None else str(text)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


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
        case BrokenPipeError():  # the reader, `head` for one, has seen enough
            sys.exit(EX_FAILURE)
        case RegsvcError() | GaveUpError() | psycopg.OperationalError():
            click.echo(f"regsvc: {error}", err=True)
            sys.exit(EX_FAILURE)
        case _:
            log.critical("ended by a bug", exc_info=error)
            sys.exit(EX_FAILURE)
