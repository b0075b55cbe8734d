"""Check a PostgreSQL server: version, encoding, and whether it accepts writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import errors

from regsvc.errors import ConfigurationError, DatabaseUnavailableError

if TYPE_CHECKING:
    from regsvc.postgres.connection import Connection

OLDEST = 14  # the oldest supported major version; older ones do not report when they become read-only
ENCODING = "UTF8"  # the only encoding that holds every name and address

# Extends a table on disk, which fails on a full disk, and leaves nothing behind.
_PROOF = "CREATE TEMPORARY TABLE regsvc_proof ON COMMIT DROP AS SELECT repeat('x', 1000) FROM generate_series(1, 16)"


class ServerNotUsableError(ConfigurationError):
    """This PostgreSQL server or database cannot be used."""


class ReadOnlyServerError(DatabaseUnavailableError):
    """The database does not accept writes at the moment."""


def check_server(connection: Connection) -> None:
    """Check that version and encoding are supported, without a query.

    Raises:
        ServerNotUsableError: they are not.
    """
    version = connection.pgconn.server_version
    if version < OLDEST * 10_000:
        major, minor = divmod(version, 10_000)
        raise ServerNotUsableError(
            f"PostgreSQL {major}.{minor} is too old: regsvc needs PostgreSQL {OLDEST} or newer"
        )
    encoding = (connection.pgconn.parameter_status(b"server_encoding") or ENCODING.encode()).decode()
    if encoding != ENCODING:
        raise ServerNotUsableError(
            f"the database's encoding is {encoding}, which cannot hold every name: create a database with "
            f"ENCODING '{ENCODING}' TEMPLATE template0, and move the data there"
        )


async def check_writable(connection: Connection) -> None:
    """Check that the server reports that it accepts writes, with one small query.

    Raises:
        ReadOnlyServerError: it is a standby, or read-only by `default_transaction_read_only`.
    """
    row = await (
        await connection.execute(
            "SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean"
        )
    ).fetchone()
    recovering, read_only = row or (False, False)
    if recovering:
        raise ReadOnlyServerError("The database is a standby, which does not accept writes.")
    if read_only:
        raise ReadOnlyServerError("The database does not accept writes: default_transaction_read_only is on.")


async def prove_writable(connection: Connection) -> None:
    """Check with a write that the server accepts writes. Nothing of it stays.

    Raises:
        ReadOnlyServerError: the write fails; with PostgreSQL's message.
    """
    await check_writable(connection)
    try:
        async with connection.transaction():
            await connection.execute(_PROOF)
    except (errors.ReadOnlySqlTransaction, errors.DiskFull, errors.OutOfMemory) as error:
        raise ReadOnlyServerError(f"The database does not accept writes: {error}") from error
    except errors.InsufficientPrivilege:
        # Without the privilege to create temporary tables, the server's own report must suffice.
        return
