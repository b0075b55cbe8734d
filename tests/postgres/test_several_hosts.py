"""Several hosts, of which the first are gone, silent or read-only: the one that takes writes is found and kept to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict

from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from tests.polling import wait_until
from tests.postgres_servers import open_postgres
from tests.proxies import Proxy, open_proxy
from tests.suite.ports import take_port


def socket_of(conninfo: str) -> Path:
    """Return the socket that a URI of a test server names."""
    parameters = conninfo_to_dict(conninfo)
    return Path(str(parameters["host"])) / f".s.PGSQL.{parameters['port']}"


def through(conninfo: str, *ports: int) -> str:
    """Return a URI of a database by way of several ports of this machine."""
    parameters = conninfo_to_dict(conninfo)
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://{parameters['user']}@{hosts}/{parameters['dbname']}?sslmode=disable"


@pytest.fixture
async def good(database: str) -> AsyncIterator[Proxy]:
    """A way to the server that takes writes."""
    async with open_proxy(socket_of(database)) as proxy:
        yield proxy


async def write(pool: Pool) -> None:
    """Write something."""
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO leaderships (chore, holder, until) VALUES (gen_random_uuid(), '', now())"
        )


async def test_hosts_that_are_gone_or_read_only_are_passed_over(
    database: str, good: Proxy, short_directory: Path, root_directory: Path
) -> None:
    async with (
        open_postgres(short_directory, root_directory) as server,
        open_proxy(socket_of(server.conninfo)) as read_only,
    ):
        async with await Connection.connect(server.conninfo) as conn:
            await conn.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            await conn.execute("SELECT pg_reload_conf()")
        pool = Pool(through(database, take_port(), read_only.port, good.port), application_name="test")
        await write(pool)
        assert read_only.accepted > 0
        await pool.aclose()


async def test_a_host_that_is_silent_is_waited_for_once(database: str, good: Proxy) -> None:
    """After a fail-over each connection would else begin with the host that was the primary."""
    async with open_proxy(socket_of(database)) as silent:
        silent.black_hole = True
        pool = Pool(through(database, silent.port, good.port), size=4, application_name="test")
        await write(pool)
        tried = silent.accepted
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(hold, pool)
            await wait_until(lambda: pool.statistics().in_use == 4)
            nursery.cancel_scope.cancel()
        assert silent.accepted == tried
        await pool.aclose()


async def hold(pool: Pool) -> None:
    """Hold a connection."""
    async with pool.connection():
        await trio.sleep_forever()


async def test_when_the_server_that_was_kept_to_is_gone_the_others_are_asked_again(
    database: str, good: Proxy
) -> None:
    async with open_proxy(socket_of(database)) as first:
        pool = Pool(through(database, first.port, good.port), application_name="test")
        await write(pool)
        assert good.accepted == 0
        await first.refuse()
        first.reset()
        with trio.fail_after(10):
            await wait_until(lambda: first.connected == 0)
            await write(pool)
        assert good.accepted == 1
        await first.listen()
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(hold, pool)
            await wait_until(lambda: pool.statistics().in_use == 2)
            nursery.cancel_scope.cancel()
        assert good.accepted == 2, "it stays where it found a server"
        await pool.aclose()
