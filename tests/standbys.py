"""A primary and its synchronous standby on this machine, each behind a network that can be made bad."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.postgres_servers import PostgresServer, open_postgres
from tests.proxies import Proxy, open_proxy

NAME = "standby"  # by which the primary knows it


@dataclass(frozen=True)
class Pair:
    """Two servers, of which the second follows the first.

    Args:
        primary: takes writes, and waits for the standby at each commit.
        standby: has every commit that was answered.
        primary_wire: between the program and the primary.
        standby_wire: between the program and the standby.
    """

    primary: PostgresServer
    standby: PostgresServer
    primary_wire: Proxy
    standby_wire: Proxy

    @property
    def url(self) -> str:
        """The URL of both, as an operator writes it."""
        parameters = conninfo_to_dict(self.primary.conninfo)
        hosts = f"127.0.0.1:{self.primary_wire.port},127.0.0.1:{self.standby_wire.port}"
        return (
            f"postgresql://{parameters['user']}@{hosts}/{parameters['dbname']}"
            "?target_session_attrs=read-write&sslmode=disable"
        )

    async def promote(self) -> None:
        """Have the standby take writes."""
        await _query(self.standby.conninfo, "SELECT pg_promote()")


async def _query(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    def run() -> list[tuple[object, ...]]:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    return await trio.to_thread.run_sync(run)


async def _run(conninfo: str, statement: str) -> None:
    def run() -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(statement.encode())

    await trio.to_thread.run_sync(run)


def _socket(conninfo: str) -> Path:
    parameters = conninfo_to_dict(conninfo)
    return Path(str(parameters["host"])) / f".s.PGSQL.{parameters['port']}"


def _follow(source: Path, target: Path, primary: str) -> None:
    """Make the files of a server those of another's standby; both have stopped."""
    owner = target.stat()
    shutil.rmtree(target)
    shutil.copytree(source, target, symlinks=True)
    with (target / "postgresql.auto.conf").open("a") as file:
        file.write(f"primary_conninfo = '{primary}'\n")
    (target / "standby.signal").touch()
    for path in (target, *target.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    target.chmod(0o700)


@asynccontextmanager
async def open_pair(folder: Path, root: Path) -> AsyncIterator[Pair]:
    """Run both as long as the block lasts.

    Args:
        folder: for their data; its path is short.
        root: where programs and data are when this runs as root.
    """
    async with open_postgres(folder / "a", root) as primary, open_postgres(folder / "b", root) as standby:
        places = [
            Path(str((await _query(server.conninfo, "SHOW data_directory"))[0][0]))
            for server in (primary, standby)
        ]
        for server in (primary, standby):
            await server.end(signal.SIGINT)
        source = conninfo_to_dict(primary.conninfo)
        followed = make_conninfo(
            host=source["host"], port=source["port"], user=source["user"], application_name=NAME
        )
        await trio.to_thread.run_sync(_follow, places[0], places[1], followed)
        await primary.start()
        await standby.start()
        await _run(primary.conninfo, f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
        await _run(primary.conninfo, "SELECT pg_reload_conf()")
        with trio.fail_after(30):
            while await _query(primary.conninfo, "SELECT sync_state FROM pg_stat_replication") != [("sync",)]:  # noqa: ASYNC110 - of another process
                await trio.sleep(0.1)
        async with (
            open_proxy(_socket(primary.conninfo)) as primary_wire,
            open_proxy(_socket(standby.conninfo)) as standby_wire,
        ):
            yield Pair(primary, standby, primary_wire, standby_wire)
