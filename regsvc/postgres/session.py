"""What holds in a session with PostgreSQL: set by us, whatever server, database, role or environment say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import errors

if TYPE_CHECKING:
    from psycopg.abc import ConnDict, ConnParam

    from regsvc.postgres.connection import Connection

# How texts, times and numbers are written on the wire, how statements are read, and what isolates transactions.
# `search_path` is left as it is: which schema is used is the operator's business. So is
# `default_transaction_read_only`, by which some hosts keep writers off a disk that is nearly full.
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
    # The server looks whether the peer of an idle connection is still there: after 10 s, three times.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "15000",
    # By a warning we learn that a COMMIT has not reached the standby that it waited for.
    "client_min_messages": "warning",
}
# A pool keeps idle connections for as long as it likes. Older servers know no such setting.
_ENDLESS_SINCE = {"idle_session_timeout": 140_000, "transaction_timeout": 170_000}

# libpq's own parameters, which poolers let through. A peer that says nothing to what was sent for 10 s is gone.
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
    """How long the server lets a session go on, in milliseconds; 0 is for ever.

    They are for a process that is neither there nor gone: one that still lives has deadlines of its own.

    Args:
        statement: of one statement.
        lock: of waiting for one lock.
        idle: in a transaction, between two statements.
    """

    statement: int
    lock: int
    idle: int


HURRIED = Limits(statement=60_000, lock=5_000, idle=5_000)
"""For requests and for what runs all the time."""
BY_HAND = Limits(statement=0, lock=10_000, idle=60_000)
"""For the commands of operators."""
UNHURRIED = Limits(statement=0, lock=0, idle=0)
"""For migrations."""


def complete(parameters: ConnDict) -> ConnDict:
    """Add to the parameters of a connection what is the same for all; time-outs of the network may be given."""
    return _AT_CONNECT | parameters | {"client_encoding": "UTF8"}


async def begin_session(connection: Connection[Any], limits: Limits) -> None:
    """Set what holds in this session.

    Raises:
        psycopg.Error: the server does not let us.
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
            # A `statement_timeout` of the role that is as short as that does not let us set it by the way.
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
