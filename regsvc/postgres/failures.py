"""Classify PostgreSQL's errors: what each means for other users of the pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import errors

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import OutcomeUnknownError, StatementInterruptedError

if TYPE_CHECKING:
    import psycopg

    from regsvc.postgres.connection import Connection

# The pooler moved us to another server session, which has other prepared statements.
_NOT_PREPARED = (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)
# A `lock_timeout`, `statement_timeout` or administrator: a retry may succeed.
_IN_THE_WAY = (errors.LockNotAvailable, errors.QueryCanceled)


@dataclass(frozen=True)
class Verdict:
    """The consequences of an error.

    Args:
        error: raised in its place.
        gone: the server is unusable, and so are all other connections to it.
        full: the server refuses writes, because its disk is full or it is read-only.
        unprepared: prepared statements do not survive.
    """

    error: DatabaseUnavailableError
    gone: bool = False
    full: bool = False
    unprepared: bool = False


def judge(error: psycopg.Error, connection: Connection) -> Verdict | None:
    """Return what an error means for other connections; None if it concerns only its statement."""
    if isinstance(error, OutcomeUnknownError):
        return Verdict(
            DatabaseUnavailableError(
                "The database did not confirm the change. Check whether it was made, or retry."
            ),
            gone=True,
        )
    if isinstance(error, StatementInterruptedError) and not connection.closed:
        # Slow, but available.
        return Verdict(DatabaseUnavailableError("The database did not finish in time."))
    if isinstance(error, _NOT_PREPARED):
        return Verdict(DatabaseUnavailableError(retry_after=1.0), gone=True, unprepared=True)
    # Class 40: rolled back in favour of another transaction (a deadlock): a retry will succeed.
    if isinstance(error, _IN_THE_WAY) or (error.sqlstate or "").startswith("40"):
        return Verdict(DatabaseUnavailableError(retry_after=1.0))
    if _takes_no_writes(error, connection):
        return Verdict(DatabaseUnavailableError(), gone=True, full=True)
    # Class 53, insufficient resources. 57P01-3: shutting down, starting.
    unavailable = (
        connection.closed
        or (error.sqlstate or "").startswith("53")
        or isinstance(error, errors.AdminShutdown | errors.CrashShutdown | errors.CannotConnectNow)
    )
    return Verdict(DatabaseUnavailableError(), gone=True) if unavailable else None


def _takes_no_writes(error: psycopg.Error, connection: Connection) -> bool:
    if isinstance(error, errors.DiskFull):
        return True
    # The server reports both parameters. A transaction that we declared read-only ourselves is a bug of ours.
    status = connection.pgconn.parameter_status
    return isinstance(error, errors.ReadOnlySqlTransaction) and b"on" in (
        status(b"in_hot_standby"),
        status(b"default_transaction_read_only"),
    )
