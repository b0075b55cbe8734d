"""Statements that nearly every request executes: prepared once a connection, without a cursor.

A cursor of psycopg finds out at every execution how to adapt parameters and load results. For a query whose types are
known this costs more than the query. Without prepared statements, as behind some poolers, it is parsed every time.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

from psycopg import pq
from psycopg.errors import error_from_result
from psycopg.generators import execute as receive
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from regsvc.postgres.connection import Connection

Reader: TypeAlias = "Callable[[bytes], Any]"

# Types' numbers in every PostgreSQL (pg_type.dat).
BYTEA, BYTEA_ARRAY, INTEGER_ARRAY, UUID_TYPE, UUID_ARRAY = 17, 1001, 1007, 2950, 2951
TEXT, TEXT_ARRAY, INTEGER, TIMESTAMP, INTERVAL, JSONB, BOOLEAN = 25, 1009, 23, 1184, 1186, 3802, 16
_NAME = re.compile(r"%\((\w+)\)s")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def read_uuid(octets: bytes) -> UUID:
    """Return a `uuid`."""
    return UUID(bytes=octets)


def read_text(octets: bytes) -> str:
    """Return a `text`."""
    return octets.decode()


def read_bytes(octets: bytes) -> bytes:
    """Return a `bytea`; null is as good as empty."""
    return octets


def read_boolean(octets: bytes) -> bool:
    """Return a `boolean`; null is as good as false."""
    return octets == b"\x01"


def read_integer(octets: bytes) -> int:
    """Return an `integer` of any size."""
    return int.from_bytes(octets, "big", signed=True)


def read_double(octets: bytes) -> float:
    """Return a `double precision`."""
    return float(struct.unpack("!d", octets)[0])


def read_timestamp(octets: bytes) -> datetime:
    """Return a `timestamptz`."""
    return _EPOCH + timedelta(microseconds=int.from_bytes(octets, "big", signed=True))


def or_null(read: Reader) -> Reader:
    """Return what reads a column that may be null, and is never empty otherwise."""
    return lambda octets: read(octets) if octets else None


def write_bytes(octets: bytes) -> bytes:
    """Return a `bytea`."""
    return b"\\x" + octets.hex().encode()


def write_array(items: Sequence[object]) -> bytes:
    """Return an array of items whose text has no comma, quote or brace, such as ids."""
    return f"{{{','.join(map(str, items))}}}".encode()


def write_byte_array(items: Iterable[bytes]) -> bytes:
    """Return a `bytea[]`; within an array, the backslash of its notation is written twice."""
    quoted = ",".join(f'"\\\\x{item.hex()}"' for item in items)
    return f"{{{quoted}}}".encode()


def write_text_array(items: Iterable[str]) -> bytes:
    """Return a `text[]`."""
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return ("{" + ",".join(f'"{item}"' for item in quoted) + "}").encode()


def _write_items(items: Sequence[Any]) -> bytes:
    return write_byte_array(items) if items and isinstance(items[0], bytes) else write_text_array(items)


_WRITERS: dict[type, Callable[[Any], bytes | None]] = {
    type(None): lambda _: None,
    str: str.encode,
    bytes: write_bytes,
    int: lambda value: b"%d" % value,
    bool: lambda value: b"t" if value else b"f",
    UUID: lambda value: str(value).encode(),
    datetime: lambda value: value.isoformat().encode(),
    timedelta: lambda value: b"%d microseconds" % (value // timedelta(microseconds=1)),
    Jsonb: lambda value: json.dumps(value.obj).encode(),
    list: _write_items,
}


class Query:
    """A statement whose parameters are written $1, $2 and so on.

    Args:
        sql: the statement.
        parameters: their types' numbers.
        columns: what reads each column of the result; null is read as nothing.
    """

    def __init__(self, sql: str, parameters: Sequence[int], columns: Sequence[Reader]) -> None:
        self._sql = sql.encode()
        # By its text: behind a pooler, a name may turn out to be another process's.
        self._name = b"regsvc_" + sha256(self._sql).hexdigest()[:16].encode()
        self._parameters = tuple(parameters)
        self._columns = tuple(columns)

    async def execute(self, conn: Connection, *values: bytes | None) -> list[tuple[Any, ...]]:
        """Execute the query on a connection, with values in PostgreSQL's text notation, and return the rows.

        Raises:
            psycopg.Error: as for any statement.
        """
        pgconn = conn.pgconn
        async with conn.lock:
            name = await self._prepare(conn)
            if name is None:
                pgconn.send_query_params(self._sql, values, self._parameters, None, pq.Format.BINARY)
            else:
                pgconn.send_query_prepared(name, values, None, pq.Format.BINARY)
            result = await _receive(conn, pq.ExecStatus.TUPLES_OK)
        get = result.get_value
        return [
            tuple([read(get(row, column) or b"") for column, read in enumerate(self._columns)])
            for row in range(result.ntuples)
        ]

    async def _prepare(self, conn: Connection) -> bytes | None:
        """Return the name of the prepared statement; None while the connection has seldom executed it."""
        threshold = conn.prepare_threshold
        seen = conn.executions.get(self._sql, 0)
        if threshold is None or seen < threshold:
            conn.executions[self._sql] = seen + 1
            return None
        if seen == threshold:
            conn.pgconn.send_prepare(self._name, self._sql, self._parameters)
            await _receive(conn, pq.ExecStatus.COMMAND_OK)
            conn.executions[self._sql] = seen + 1
        return self._name


class NamedQuery(Query):
    """A query whose parameters are written `%(name)s`, so that it can be made of the same parts as other statements.

    Args:
        sql: the statement.
        parameters: their types' numbers, by name; of more than there are, too.
        columns: as for `Query`.
    """

    def __init__(self, sql: str, parameters: Mapping[str, int], columns: Sequence[Reader]) -> None:
        self._names = tuple(dict.fromkeys(_NAME.findall(sql)))
        numbered = _NAME.sub(lambda found: f"${self._names.index(found[1]) + 1}", sql)
        super().__init__(numbered, [parameters[name] for name in self._names], columns)

    def write(self, values: Mapping[str, object]) -> list[bytes | None]:
        """Return values of Python's types as `execute` takes them. A list is of texts or octets."""
        return [_WRITERS[type(value := values[name])](value) for name in self._names]


async def _receive(conn: Connection, wanted: pq.ExecStatus) -> pq.abc.PGresult:
    result: pq.abc.PGresult = (await conn.wait(receive(conn.pgconn)))[-1]
    if result.status != wanted:
        raise error_from_result(result, encoding="utf-8")
    return result
