"""What an error of PostgreSQL means to those who share its connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import errors

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import OutcomeUnknownError, StatementInterruptedError

if TYPE_CHECKING:
    import psycopg

    from regsvc.postgres.connection import Connection

# The pooler gave our session to another client, whose prepared statements are its own.
_NOT_PREPARED = (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)
# A `lock_timeout`, `statement_timeout` or administrator: the same may go well in a moment.
_IN_THE_WAY = (errors.LockNotAvailable, errors.QueryCanceled)


@dataclass(frozen=True)
class Verdict:
    """What to make of an error.

    Args:
        error: what is raised in its place.
        gone: the server is of no use, and neither are other connections to it.
        full: it takes no writes for want of room, or by its own word.
        forgetful: no statement stays prepared.
    """

    error: DatabaseUnavailableError
    gone: bool = False
    full: bool = False
    forgetful: bool = False


def judge(error: psycopg.Error, connection: Connection) -> Verdict | None:
    """Return what an error means for others; None when it is the business of the statement alone."""
    if isinstance(error, OutcomeUnknownError):
        return Verdict(
            DatabaseUnavailableError("The database did not say whether this was done: look, or try again."),
            gone=True,
        )
    if isinstance(error, StatementInterruptedError) and not connection.closed:
        # Slow, but there.
        return Verdict(DatabaseUnavailableError("The database did not finish in time."))
    if isinstance(error, _NOT_PREPARED):
        return Verdict(DatabaseUnavailableError(retry_after=1.0), gone=True, forgetful=True)
    # Class 40: rolled back for another's sake (a deadlock): the same will go well in a moment.
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
    # The server keeps its clients informed of both; a transaction that is read-only by our own word is a bug of ours.
    status = connection.pgconn.parameter_status
    return isinstance(error, errors.ReadOnlySqlTransaction) and b"on" in (
        status(b"in_hot_standby"),
        status(b"default_transaction_read_only"),
    )
