"""Fixtures on a real PostgreSQL: one server a session, one template with the schema, a clone of it for each test.

`REGSVC_TEST_POSTGRES` is the URI of another server to use, such as one of an older version, that runs already.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import trio

from regsvc.postgres.embedded import EmbeddedPostgres
from regsvc.postgres.migrate import migrate
from regsvc.postgres.pool import Pool
from tests.suite.ram_disk import find_ram_disk, name_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_TEMPLATE = "regsvc_template"
# A crash of the machine loses nothing here that anybody wants.
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    # Each clone and each drop is a checkpoint. What is said of it would turn up in the output that a test captures.
    "log_checkpoints": "off",
    "max_wal_size": "128MB",  # of the RAM disk
}
_numbers = itertools.count(1)


def name_database(conninfo: str, name: str) -> str:
    """Change the database that an embedded server's URI names."""
    return conninfo.replace("/postgres?", f"/{name}?")


def read_sql(conninfo: str, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement."""
    with psycopg.connect(conninfo) as conn:
        return conn.execute(statement.encode()).fetchall()


def run_sql(conninfo: str, *statements: str) -> None:
    """Execute statements one by one, outside of any transaction and without Trio."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@contextmanager
def make_short_directory() -> Iterator[Path]:
    """Make a directory for a server: unlike pytest's, others can reach it (a server is not root) and it is short."""
    with tempfile.TemporaryDirectory(prefix=name_folder(), dir=find_ram_disk()) as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """A directory for a server of the test's own."""
    with make_short_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def root_directory() -> Iterator[Path]:
    """Where clusters and programs are when the tests run as root; one copy of the programs does."""
    with make_short_directory() as directory:
        yield directory


@pytest.fixture(scope="session")
def postgres_server(root_directory: Path) -> Iterator[str]:
    """A server for the whole run; the URI of its `postgres` database, which stays empty."""
    if given := os.environ.get("REGSVC_TEST_POSTGRES"):
        run_sql(given, f"DROP DATABASE IF EXISTS {_TEMPLATE}", f"CREATE DATABASE {_TEMPLATE}")
        trio.run(migrate, name_database(given, _TEMPLATE))
        yield given
        return
    # Fixtures of a session cannot be on Trio, hence the thread. What goes wrong in it is raised here.
    started: SimpleQueue[tuple[str, trio.CancelScope, trio.lowlevel.TrioToken] | BaseException] = (
        SimpleQueue()
    )

    async def serve(directory: Path) -> None:
        with trio.CancelScope() as scope:
            async with EmbeddedPostgres(directory, root_dir=root_directory, settings=_SETTINGS) as server:
                run_sql(server.conninfo, f"CREATE DATABASE {_TEMPLATE}")
                await migrate(name_database(server.conninfo, _TEMPLATE))
                started.put((server.conninfo, scope, trio.lowlevel.current_trio_token()))
                await trio.sleep_forever()

    def run(directory: Path) -> None:
        try:
            trio.run(serve, directory)
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            started.put(error)

    with make_short_directory() as directory:
        thread = threading.Thread(target=run, args=[directory], name="postgres")
        thread.start()
        outcome = started.get(timeout=60)
        if isinstance(outcome, BaseException):
            raise outcome
        conninfo, scope, token = outcome
        yield conninfo
        token.run_sync_soon(scope.cancel)
        thread.join(timeout=30)


@contextmanager
def clone_database(server: str) -> Iterator[str]:
    """Hold a fresh database with the schema; gives its URI."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server, autocommit=True) as connection:
        # Copies files by itself before version 15.
        strategy = " STRATEGY file_copy" if connection.info.server_version >= 150_000 else ""
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}{strategy}".encode())
    yield name_database(server, name)
    run_sql(server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(postgres_server: str) -> Iterator[str]:
    """The URI of a fresh database with the schema, for one test."""
    with clone_database(postgres_server) as conninfo:
        yield conninfo


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    """A pool of eight connections to `database`."""
    pool = Pool(database, application_name="regsvc test")
    yield pool
    await pool.aclose()
