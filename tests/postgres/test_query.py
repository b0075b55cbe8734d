from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import trio
from psycopg import errors
from psycopg.types.json import Jsonb

from regsvc.postgres.connection import Connection
from regsvc.postgres.query import (
    BOOLEAN,
    BYTEA,
    BYTEA_ARRAY,
    INTEGER,
    INTERVAL,
    JSONB,
    TEXT,
    TEXT_ARRAY,
    TIMESTAMP,
    UUID_ARRAY,
    UUID_TYPE,
    NamedQuery,
    Query,
    read_boolean,
    read_integer,
    read_text,
    read_timestamp,
    read_uuid,
    write_array,
)
from tests.postgres.wire import open_wire

ECHO = Query(
    "SELECT id, 'ä' || id::text, -7, timestamptz '2026-02-03 04:05:06.789012+00' FROM unnest($1) AS t(id)",
    [UUID_ARRAY],
    [read_uuid, read_text, read_integer, read_timestamp],
)
SLOW = Query("SELECT pg_sleep(60)::text FROM unnest($1)", [UUID_ARRAY], [read_text])
WRONG = Query("SELECT 1 / cardinality($1)", [UUID_ARRAY], [read_integer])


def row_of(id_: UUID) -> tuple[object, ...]:
    return id_, f"ä{id_}", -7, datetime(2026, 2, 3, 4, 5, 6, 789012, UTC)


async def test_rows_come_in_pythons_types(database: str) -> None:
    ids = [uuid4(), uuid4()]
    async with await Connection.connect(database) as conn:
        assert await ECHO.execute(conn, write_array(ids)) == [row_of(id_) for id_ in ids]
        assert await ECHO.execute(conn, write_array([])) == []


HARD = "comma, \"quote\", back\\slash, {brace}, 'apostrophe', ä, NULL"


@pytest.mark.parametrize(
    ("value", "number", "type_name"),
    [
        (HARD, TEXT, "text"),
        (["", "NULL", HARD], TEXT_ARRAY, "text[]"),
        ([], TEXT_ARRAY, "text[]"),
        (b'\x00\\"\xff', BYTEA, "bytea"),
        ([b"\x00\xff", b"", b"\\"], BYTEA_ARRAY, "bytea[]"),
        (UUID(int=7), UUID_TYPE, "uuid"),
        (-7, INTEGER, "integer"),
        (True, BOOLEAN, "boolean"),
        (False, BOOLEAN, "boolean"),
        (datetime(2026, 2, 3, 4, 5, 6, 789012, UTC), TIMESTAMP, "timestamptz"),
        (timedelta(days=-3, microseconds=5), INTERVAL, "interval"),
        (Jsonb({"a": ['"', None, 1]}), JSONB, "jsonb"),
        (None, TEXT, "text"),
    ],
)
async def test_a_named_parameter_arrives_as_psycopg_writes_it(
    database: str, value: object, number: int, type_name: str
) -> None:
    query = NamedQuery(
        f"SELECT %(mine)s IS NOT DISTINCT FROM %(other)s::{type_name} AND %(mine)s IS NOT DISTINCT FROM %(mine)s",
        {"mine": number, "other": TEXT, "unused": TEXT},
        [read_boolean],
    )
    async with await Connection.connect(database) as conn:
        cursor = await conn.execute(f"SELECT (%s::{type_name})::text".encode(), [value])
        ((other,),) = await cursor.fetchall()
        assert await query.execute(conn, *query.write({"mine": value, "other": other})) == [(True,)]


async def test_it_is_prepared_when_it_is_frequent_and_takes_one_round_trip_then(database: str) -> None:
    async with (
        open_wire(database) as wire,
        await Connection.connect(wire.conninfo(), application_name="x", prepare_threshold=2) as conn,
    ):
        wire.seen.clear()
        for _ in range(2):
            await ECHO.execute(conn, write_array([uuid4()]))
        assert [bool(texts) for texts in wire.take("x")] == [True, True]
        await ECHO.execute(conn, write_array([uuid4()]))
        assert len(wire.take("x")) == 2  # it is prepared, and executed
        for id_ in (uuid4(), uuid4()):
            assert await ECHO.execute(conn, write_array([id_])) == [row_of(id_)]
        assert wire.take("x") == [[], []]


async def test_nothing_is_prepared_where_prepared_statements_are_off(database: str) -> None:
    async with await Connection.connect(database, prepare_threshold=None) as conn:
        for _ in range(10):
            await ECHO.execute(conn, write_array([uuid4()]))
        cursor = await conn.execute("SELECT count(*) FROM pg_prepared_statements")
        assert await cursor.fetchone() == (0,)


async def test_an_error_of_the_server_is_raised_and_the_connection_works_on(database: str) -> None:
    async with await Connection.connect(database, prepare_threshold=1) as conn:
        for _ in range(3):
            with pytest.raises(errors.DivisionByZero):
                await WRONG.execute(conn, write_array([]))
        assert await WRONG.execute(conn, write_array([uuid4()])) == [(1,)]


async def test_a_cancelled_query_leaves_the_connection_clean(database: str) -> None:
    async with await Connection.connect(database) as conn:
        with trio.move_on_after(0.1) as scope:
            await SLOW.execute(conn, write_array([uuid4()]))
        assert scope.cancelled_caught
        assert conn.is_reusable
        id_ = uuid4()
        assert await ECHO.execute(conn, write_array([id_])) == [row_of(id_)]
