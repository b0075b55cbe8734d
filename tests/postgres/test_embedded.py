from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import trio

from regsvc.errors import ConfigurationError
from regsvc.postgres.connection import Connection
from regsvc.postgres.embedded import EmbeddedPostgres, EmbeddedPostgresError
from tests.databases import run_sql

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Runs a server in DIR, says where and that it runs, and stops when told to by SIGTERM. As root it becomes UID first.
PROGRAM = """
import os, signal, sys, trio
from pathlib import Path
from regsvc.postgres.embedded import EmbeddedPostgres
from regsvc.postgres import connection
directory, root, uid = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
if uid != os.geteuid():
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
async def main():
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with EmbeddedPostgres(directory, root_dir=root) as server:
            print(server.pid, server.conninfo, flush=True)
            async for _ in signals:
                return
import structlog
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
trio.run(main)
"""


class Program:
    """A program with a server of its own, run in a process that can be killed."""

    def __init__(self, directory: Path, root: Path, *, uid: int | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, directory, root, str(uid or os.geteuid())],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ) | {"REGSVC_SECRET_KEY": "canary"},
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.stop()[1]
        pid, self.conninfo = line.split()
        self.server_pid = int(pid)
        self.pid = self._process.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait; returns the exit status and what it logged."""
        self._process.send_signal(number)
        _, logged = self._process.communicate(timeout=30)
        return self._process.returncode, logged


class Home:
    """A data directory, with what can be found out about it."""

    def __init__(self, directory: Path, root: Path) -> None:
        self.directory = directory
        self.root = root

    def server(self, **settings: str) -> EmbeddedPostgres:
        """Make a server of this directory."""
        return EmbeddedPostgres(self.directory, root_dir=self.root, settings=settings)

    def start_program(self, *, uid: int | None = None) -> Program:
        """Start a program with a server of this directory."""
        return Program(self.directory, self.root, uid=uid)

    @property
    def cluster(self) -> Path:
        """Where the cluster is."""
        pointer = self.directory / "postgres.path"
        return Path(pointer.read_text().strip()) if pointer.exists() else self.directory / "postgres"

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.cluster / "data"


@pytest.fixture
def home(short_directory: Path, root_directory: Path) -> Iterator[Home]:
    """A data directory that does not exist yet."""
    home = Home(short_directory / "data", root_directory)
    yield home
    shutil.rmtree(home.cluster, ignore_errors=True)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that its parent has not asked after yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def make_directory(path: Path) -> None:
    path.mkdir(parents=True)


def open_to_all(path: Path) -> None:
    path.chmod(0o777)


def describe(path: Path) -> tuple[int, int]:
    """Tell the owner and the permissions of a file."""
    found = path.stat()
    return found.st_uid, stat.S_IMODE(found.st_mode)


async def test_a_second_start_finds_the_data_again(home: Home) -> None:
    async with home.server() as server:
        run_sql(server.conninfo, "CREATE TABLE things (id integer)")
        first = server.pid
        assert first is not None
    assert not is_running(first)
    async with home.server() as server:
        run_sql(server.conninfo, "SELECT * FROM things")


async def test_listens_on_no_port(home: Home) -> None:
    async with home.server() as server, await Connection.connect(server.conninfo) as connection:
        assert await (await connection.execute("SHOW listen_addresses")).fetchone() == ("",)


async def test_the_server_has_a_session_of_its_own(home: Home) -> None:
    """Ctrl-C strikes our process group, and it must outlive what uses it."""
    async with home.server() as server:
        assert server.pid is not None
        assert os.getsid(server.pid) != os.getsid(0)


@pytest.mark.parametrize("name", ["long-" + "x" * 120, "with space, comma and ü"])
async def test_any_directory_will_do(short_directory: Path, name: str) -> None:
    """The path of a Unix socket has 107 bytes, and libpq splits hosts at commas."""
    root = short_directory / name
    root.mkdir(mode=0o755)
    async with EmbeddedPostgres(root / "data", root_dir=root) as server:
        run_sql(server.conninfo, "SELECT 1")


async def test_a_second_program_is_told_of_the_first(home: Home) -> None:
    program = home.start_program()
    with pytest.raises(ConfigurationError, match=rf"another regsvc \(pid {program.pid}\) is running"):
        async with home.server():
            pytest.fail("started")
    run_sql(program.conninfo, "SELECT 1")
    assert program.stop()[0] == 0
    assert not is_running(program.server_pid)


async def test_a_killed_program_leaves_a_server_that_the_next_one_replaces(home: Home) -> None:
    program = home.start_program()
    run_sql(program.conninfo, "CREATE TABLE things (id integer)")
    program.stop(signal.SIGKILL)
    assert is_running(program.server_pid)
    async with home.server() as server:
        assert not is_running(program.server_pid)
        run_sql(server.conninfo, "SELECT * FROM things")


async def test_a_pid_that_somebody_else_got_is_left_alone(home: Home) -> None:
    async with home.server().reserved():
        pass
    async with trio.open_nursery() as nursery:
        bystander = await nursery.start(trio.run_process, ["sleep", "60"])
        (home.data / "postmaster.pid").write_text(f"{bystander.pid}\n{home.data}\n")
        (home.data / "postmaster.pid").chmod(0o644)
        async with home.server() as server:
            run_sql(server.conninfo, "SELECT 1")
        assert is_running(bystander.pid)
        nursery.cancel_scope.cancel()


async def test_a_cluster_half_made_is_made_anew(home: Home) -> None:
    """As if killed while initdb worked: it works beside the place."""
    async with home.server().reserved():
        pass
    unfinished = home.data.rename(home.data.with_suffix(".new"))
    (unfinished / "global/pg_control").unlink()
    async with home.server() as server:
        run_sql(server.conninfo, "SELECT 1")
    assert describe(home.data)[1] == 0o700


async def test_a_cancelled_first_start_leaves_nothing_running(home: Home) -> None:
    with trio.move_on_after(0.15) as scope:
        async with home.server():
            await trio.sleep_forever()
    assert scope.cancelled_caught
    async with home.server() as server:
        run_sql(server.conninfo, "SELECT 1")


async def test_a_server_that_dies_is_told_and_can_be_run_again(home: Home) -> None:
    async with home.server().reserved() as server:
        with pytest.RaisesGroup(pytest.RaisesExc(EmbeddedPostgresError, match="ended with status")):
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run)
                run_sql(server.conninfo, "CREATE TABLE things (id integer)")
                server.kill()
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            run_sql(server.conninfo, "SELECT * FROM things")
            nursery.cancel_scope.cancel()
    assert server.pid is None


async def test_a_server_that_dies_ends_the_block_that_needs_it(home: Home) -> None:
    with trio.fail_after(30), pytest.raises(EmbeddedPostgresError):
        async with home.server() as server:
            server.kill()
            await trio.sleep_forever()


async def test_an_error_of_the_block_comes_out_as_it_is(home: Home) -> None:
    with pytest.raises(KeyError):
        async with home.server():
            raise KeyError


async def test_a_server_that_does_not_start_says_why(home: Home) -> None:
    with pytest.raises(EmbeddedPostgresError, match="nonsense"):
        async with home.server(nonsense="1"):
            pytest.fail("started")


async def test_a_cluster_of_another_major_version_is_refused(home: Home) -> None:
    async with home.server().reserved():
        pass
    (home.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigurationError, match="created by PostgreSQL 9"):
        async with home.server():
            pytest.fail("started")


async def test_idle_connections_do_not_keep_it_from_stopping(home: Home) -> None:
    with trio.fail_after(30):
        async with home.server() as server:
            connection = await Connection.connect(server.conninfo)
    await connection.close()


def test_what_clients_send_is_not_logged(home: Home) -> None:
    """Nor does the server get our environment, secrets and all."""
    program = home.start_program()
    with psycopg.connect(program.conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE people (email text PRIMARY KEY)")
        connection.execute("INSERT INTO people VALUES ('canary@example.com')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO people VALUES ('canary@example.com')")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            connection.execute('SELECT "canary"')
    assert "canary" not in Path(f"/proc/{program.server_pid}/environ").read_text()
    status, logged = program.stop()
    assert status == 0
    assert "embedded postgresql ready" in logged
    assert "canary" not in logged


@as_root
async def test_as_root_the_cluster_belongs_to_an_unprivileged_account_and_nobody_else(home: Home) -> None:
    """PostgreSQL refuses uid 0."""
    async with home.server() as server:
        uid, permissions = describe(home.cluster)
        assert uid != 0
        assert permissions == 0o700
        assert describe(Path(f"/proc/{server.pid}"))[0] == uid


@as_root
async def test_as_root_no_permission_of_anything_else_changes(
    short_directory: Path, root_directory: Path
) -> None:
    """A data directory below a private home is no obstacle, and stays private."""
    private = short_directory / "home"
    private.mkdir(mode=0o700)
    async with EmbeddedPostgres(private / "project/.regsvc", root_dir=root_directory) as server:
        run_sql(server.conninfo, "SELECT 1")
    assert describe(private) == describe(private / "project/.regsvc") == (0, 0o700)


@as_root
async def test_as_root_a_restrictive_umask_is_no_obstacle(short_directory: Path) -> None:
    before = os.umask(0o077)
    try:
        async with EmbeddedPostgres(short_directory / "data", root_dir=short_directory / "lib") as server:
            run_sql(server.conninfo, "SELECT 1")
    finally:
        os.umask(before)


@as_root
async def test_as_root_a_place_that_others_can_write_to_is_refused(short_directory: Path) -> None:
    open_to_all(short_directory)
    with pytest.raises(ConfigurationError, match="writable only by root"):
        async with EmbeddedPostgres(short_directory / "data", root_dir=short_directory):
            pytest.fail("started")


@as_root
async def test_as_root_a_cluster_that_is_gone_is_not_silently_replaced(home: Home) -> None:
    make_directory(home.directory)
    (home.directory / "postgres.path").write_text("/gone\n")
    with pytest.raises(ConfigurationError, match="which does not exist"):
        async with home.server():
            pytest.fail("started")


@as_root
async def test_as_root_a_copied_directory_does_not_take_the_server_away(
    home: Home, short_directory: Path
) -> None:
    """Both name the same cluster."""
    async with home.server() as server:
        copy = shutil.copytree(home.directory, short_directory / "copy")
        with pytest.raises(ConfigurationError, match="another regsvc"):
            async with Home(copy, home.root).server():
                pytest.fail("started")
        run_sql(server.conninfo, "SELECT 1")


@as_root
async def test_as_root_the_cluster_of_an_ordinary_user_is_left_to_them(home: Home) -> None:
    make_directory(home.directory / "postgres")
    os.chown(home.directory / "postgres", NOBODY, NOBODY)
    with pytest.raises(ConfigurationError, match="run as that user"):
        async with home.server():
            pytest.fail("started")


@as_root
def test_an_ordinary_user_keeps_it_all_in_the_data_directory(home: Home, short_directory: Path) -> None:
    os.chown(short_directory, NOBODY, NOBODY)
    program = home.start_program(uid=NOBODY)
    run_sql(program.conninfo, "SELECT 1")
    assert home.cluster == home.directory / "postgres"
    assert describe(home.data) == (NOBODY, 0o700)
    assert program.stop()[0] == 0
