"""Session parameters, set by us so that the defaults of server, database, role or environment do not matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import errors

from regsvc.tracing.spans import get_span

if TYPE_CHECKING:
    from psycopg.abc import ConnDict, ConnParam

    from regsvc.postgres.connection import Connection

# Formats of texts, times and numbers on the wire, the SQL syntax, and transaction isolation. `search_path` is left
# alone, because the operator chooses the schema. So is `default_transaction_read_only`, by which some hosting providers
# stop writes to a disk that is nearly full.
_NOTATIONS = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # The server probes the peer of an idle connection after 10 s, three times.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
    # A warning reports that a COMMIT has not reached the standby that it waited for.
    "client_min_messages": "warning",
}
# A pool keeps idle connections as long as it needs to. Older servers have no such parameter.
_ENDLESS_SINCE = {"idle_session_timeout": 140_000, "transaction_timeout": 170_000}

# libpq's own parameters, which poolers allow. A peer that acknowledges nothing for 10 s counts as gone.
_AT_CONNECT: dict[str, ConnParam] = {
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_TRIES = 20


@dataclass(frozen=True)
class Limits:
    """Time limits that the server enforces on a session, in milliseconds; 0 means none.

    They are for a process that hangs without being gone: one that works has its own deadlines.

    Args:
        statement: for one statement.
        lock: for one lock.
        idle: between two statements of a transaction.
    """

    statement: int
    lock: int
    idle: int


HURRIED = Limits(statement=60_000, lock=5_000, idle=5_000)
"""For requests and background work."""
BY_HAND = Limits(statement=0, lock=10_000, idle=60_000)
"""For operators' commands."""
UNHURRIED = Limits(statement=0, lock=0, idle=0)
"""For migrations."""


def complete(parameters: ConnDict) -> ConnDict:
    """Return connection parameters with the common ones added. Network timeouts that are already set win."""
    return _AT_CONNECT | parameters | {"client_encoding": "UTF8"}


async def begin_session(connection: Connection[Any], limits: Limits) -> None:
    """Set the session parameters.

    Raises:
        psycopg.Error: the server refuses a parameter.
    """
    settings = _NOTATIONS | {
        "statement_timeout": str(limits.statement),
        "lock_timeout": str(limits.lock),
        "idle_in_transaction_session_timeout": str(limits.idle),
    }
    version = connection.pgconn.server_version
    settings |= {name: "0" for name, since in _ENDLESS_SINCE.items() if version >= since}
    calls = ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    for _ in range(_TRIES):
        try:
            await connection.command(f"SELECT {calls}".encode())
        except errors.QueryCanceled:
            # The role's `statement_timeout` may be too short even for this query, so lift it first.
            await _lift_statement_timeout(connection)
        else:
            return


async def _lift_statement_timeout(connection: Connection[Any]) -> None:
    for _ in range(_TRIES):
        try:
            await connection.command(b"SET statement_timeout = 0")
        except errors.QueryCanceled:
            continue
        return


async def begin_transaction(connection: Connection[Any]) -> None:
    """Begin a transaction. In a traced request the rows that it adds know its span (migration 0044)."""
    await connection.command(b"BEGIN")
    span = get_span()
    if span is not None:
        await connection.command(b"SET LOCAL regsvc.trace = '%b'" % span.context.stored.hex().encode())
