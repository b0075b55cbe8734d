from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import trio
from psycopg import errors
from psycopg.rows import class_row, dict_row

from regsvc.postgres.connection import IDLE, Connection
from tests.postgres.proxies import open_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def connection(database: str) -> AsyncIterator[Connection]:
    async with await Connection.connect(database) as connection:
        yield connection


async def fetch(connection: Connection, statement: str, *parameters: object) -> object:
    """Fetch the one value that a statement returns."""
    row = await (await connection.execute(statement.encode(), parameters)).fetchone()
    assert row is not None
    return row[0]


async def wait_active(observer: Connection, pid: int, *, count: int = 1) -> None:
    """Wait until the server works on a statement of the backend `pid`, or no longer does (`count` 0)."""
    with trio.fail_after(10):
        statement = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
        while await fetch(observer, statement, pid) != count:  # noqa: ASYNC110 - the server has no event for it
            await trio.sleep(0.005)


@dataclass
class Person:
    """Somebody."""

    id: int
    name: str


async def test_rows_come_as_asked_for(connection: Connection) -> None:
    """Row factories of psycopg work, per cursor."""
    async with connection.cursor(row_factory=class_row(Person)) as people:
        await people.execute("SELECT 7 AS id, 'Ada' AS name")
        assert await people.fetchone() == Person(7, "Ada")
    async with connection.cursor(row_factory=dict_row) as dicts:
        await dicts.execute("SELECT 7 AS id")
        assert await dicts.fetchall() == [{"id": 7}]


async def test_statements_outside_a_transaction_commit_by_themselves(
    database: str, connection: Connection
) -> None:
    await connection.execute("CREATE TABLE things (id integer)")
    async with await Connection.connect(database) as other:
        assert await fetch(other, "SELECT count(*) FROM things") == 0


async def test_key_value_conninfo_over_a_unix_socket(database: str) -> None:
    parts = urlsplit(database)
    (host,) = parse_qs(parts.query)["host"]
    conninfo = f"host='{host}' port=5432 user={parts.username} dbname={parts.path[1:]}"
    async with await Connection.connect(conninfo, application_name="by key and value") as connection:
        assert await fetch(connection, "SHOW application_name") == "by key and value"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "nobody.invalid,localhost"])
async def test_connects_over_tcp_by_address_and_by_name(database: str, host: str) -> None:
    """Names are resolved, all their addresses tried, and hosts without an address passed over."""
    async with (
        open_proxy(database) as proxy,
        await Connection.connect(proxy.conninfo(), host=host, port=str(proxy.port)) as connection,
    ):
        assert await fetch(connection, "SELECT 1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names of Linux")
async def test_a_peer_that_is_neither_there_nor_gone_is_noticed_in_seconds(database: str) -> None:
    """By both sides: the system's own defaults are two hours."""
    async with (
        open_proxy(database) as proxy,
        await Connection.connect(proxy.conninfo()) as connection,
    ):
        with socket.socket(fileno=socket.dup(connection.fileno())) as ours:
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            waits = {
                name: ours.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
            }
        assert waits["TCP_KEEPIDLE"] + waits["TCP_KEEPINTVL"] * waits["TCP_KEEPCNT"] <= 30
        assert 0 < waits["TCP_USER_TIMEOUT"] <= 15_000


async def test_a_host_without_an_address_is_an_operational_error() -> None:
    with pytest.raises(psycopg.OperationalError, match=r"nobody\.invalid"):
        await Connection.connect("postgresql://user@nobody.invalid/database")


async def test_goes_on_to_the_next_host_when_one_refuses(database: str) -> None:
    async with (
        open_proxy(database) as proxy,
        await Connection.connect(proxy.conninfo("127.0.0.1:1,127.0.0.1:{port}")) as connection,
    ):
        assert await fetch(connection, "SELECT 1") == 1


async def test_goes_on_to_the_next_host_when_one_never_answers(database: str) -> None:
    """Each host gets its share of the time."""
    async with open_proxy(database) as silent, open_proxy(database) as proxy:
        silent.fall_silent()
        hosts = f"127.0.0.1:{silent.port},127.0.0.1:{{port}}"
        async with await Connection.connect(proxy.conninfo(hosts), timeout=1.0) as connection:
            assert await fetch(connection, "SELECT 1") == 1


async def test_every_refusal_is_told(database: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"(?s)port 1 .*port 2 "):
        await Connection.connect("postgresql://user@127.0.0.1:1,127.0.0.1:2/database")


async def test_a_server_that_never_answers_is_given_up(database: str) -> None:
    async with open_proxy(database) as proxy:
        proxy.fall_silent()
        with trio.fail_after(5), pytest.raises(errors.ConnectionTimeout):
            await Connection.connect(proxy.conninfo(), timeout=0.2)


async def test_a_cancelled_connect_closes_its_socket(database: str) -> None:
    async with open_proxy(database) as proxy:
        proxy.fall_silent()
        with trio.move_on_after(0.1):
            await Connection.connect(proxy.conninfo(), timeout=60)
        proxy.speak()
        with trio.fail_after(5):
            while proxy.open_streams:  # noqa: ASYNC110 - what is waited for is the absence of an event
                await trio.sleep(0.005)


async def test_tasks_take_turns_on_one_connection(connection: Connection) -> None:
    found: list[object] = []

    async def ask(number: int) -> None:
        found.append(await fetch(connection, "SELECT %s::integer", number))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(ask, number)
    assert sorted(found, key=str) == sorted(range(50), key=str)


async def test_statements_larger_than_the_socket_buffers_pass(connection: Connection) -> None:
    """While a statement is being sent, what the server says is read."""
    text = "ü" * 5_000_000
    assert await fetch(connection, "SELECT %s::text", text) == text


async def test_many_rows_are_written_in_one_go(connection: Connection) -> None:
    await connection.execute("CREATE TABLE things (id integer)")
    async with connection.cursor() as cursor:
        await cursor.executemany("INSERT INTO things VALUES (%s)", [[number] for number in range(5000)])
    assert await fetch(connection, "SELECT count(*) FROM things") == 5000


async def test_a_cancelled_statement_is_cancelled_on_the_server(
    database: str, connection: Connection
) -> None:
    async with await Connection.connect(database) as observer, trio.open_nursery() as nursery:
        pid = connection.info.backend_pid
        nursery.start_soon(connection.execute, "SELECT pg_sleep(60)")
        await wait_active(observer, pid)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_active(observer, pid, count=0)
    assert connection.pgconn.transaction_status == IDLE
    assert await fetch(connection, "SELECT 1") == 1


async def test_a_cancel_before_a_statement_sends_nothing(connection: Connection) -> None:
    await connection.execute("CREATE TABLE things (id integer)")
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.execute("INSERT INTO things VALUES (1)")
    assert scope.cancelled_caught
    assert await fetch(connection, "SELECT count(*) FROM things") == 0


async def test_a_cancelled_batch_closes_the_connection(connection: Connection) -> None:
    """A pipeline is not worth untangling."""
    async with connection.cursor() as cursor:
        with trio.move_on_after(0.2) as scope:
            await cursor.executemany("SELECT pg_sleep(%s)", [[60]] * 3)
    assert scope.cancelled_caught
    assert connection.closed


async def test_a_cancel_that_the_server_does_not_answer_closes_the_connection(database: str) -> None:
    async with open_proxy(database) as proxy, await Connection.connect(proxy.conninfo()) as connection:
        proxy.fall_silent()
        with trio.fail_after(5), trio.move_on_after(0.1) as scope:
            await connection.execute("SELECT 1")
        assert scope.cancelled_caught
        assert connection.closed


async def test_a_cancel_while_a_statement_is_being_sent_closes_the_connection(database: str) -> None:
    """The server does not read: the socket is full."""
    async with open_proxy(database) as proxy, await Connection.connect(proxy.conninfo()) as connection:
        proxy.fall_silent()
        with trio.fail_after(10), trio.move_on_after(0.3) as scope:
            await connection.execute("SELECT %s::text", ["x" * 50_000_000])
        assert scope.cancelled_caught
        assert connection.closed


async def test_closing_wakes_who_waits(connection: Connection) -> None:
    with pytest.RaisesGroup(psycopg.OperationalError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.execute, "SELECT pg_sleep(60)")
            await trio.testing.wait_all_tasks_blocked(0.05)
            await connection.close()


async def test_a_server_that_goes_away_is_an_operational_error(database: str, connection: Connection) -> None:
    async with await Connection.connect(database) as other:
        await other.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
    with pytest.raises(psycopg.OperationalError):
        await connection.execute("SELECT 1")
    assert connection.closed
