"""`regsvc dev`: one command, nothing installed beside it, and nothing of the machine changed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
import trio

from tests.acceptance.test_streams import CLOSED
from tests.polling import wait_until
from tests.programs import Program, run_program, talk_to

# It starts a PostgreSQL of its own.
pytestmark = pytest.mark.server

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@dataclass
class Home:
    """Where somebody starts `regsvc dev`.

    Args:
        folder: theirs.
        user: whom the program runs as; None is us.
        environ: settings.
        python: an interpreter that the user can run.
    """

    folder: Path
    user: int | None = None
    environ: dict[str, str] = field(default_factory=dict)
    python: str = sys.executable

    @property
    def data(self) -> Path:
        """What `regsvc dev` makes there."""
        return self.folder / ".regsvc"

    @property
    def cluster(self) -> Path:
        """Where the database is."""
        pointer = self.data / "postgres.path"
        return Path(pointer.read_text().strip()) if pointer.exists() else self.data / "postgres"

    def start(
        self, *, ready: bool = True, port: int | None = None, prefix: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[Program]:
        """Run `regsvc dev` in the folder."""
        return run_program(
            "dev",
            folder=self.folder.parent,
            cwd=self.folder,
            environ={"REGSVC_BCRYPT_COST": "10", **self.environ},
            port=port,
            ready=ready,
            user=self.user,
            python=self.python,
            prefix=prefix,
        )

    def server_pid(self) -> int:
        """Return the pid of the database's server."""
        return int((self.cluster / "data/postmaster.pid").read_text().partition("\n")[0])


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that an ordinary user can run: when root runs the tests, perhaps not the tests' own."""
    if os.geteuid() != 0:
        return sys.executable
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with suppress(OSError):
            done = subprocess.run(
                [python, "-c", "import regsvc.cli"],
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
                cwd="/",
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                return python
    pytest.skip("no interpreter here that nobody can run")


@pytest.fixture
def home(short_directory: Path, python: str) -> Home:
    """A folder of an ordinary user: whoever runs the tests, or nobody when that is root."""
    folder = short_directory / "home"
    folder.mkdir(mode=0o755)
    if os.geteuid() != 0:
        return Home(folder)
    os.chown(folder, NOBODY, NOBODY)
    environ = {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(folder)}
    return Home(folder, NOBODY, environ, python)


@pytest.fixture
def root_home(short_directory: Path) -> Iterator[Home]:
    """A folder of root's, below one that only root may look into."""
    folder = short_directory / "private" / "project"
    folder.parent.mkdir(mode=0o700)
    folder.mkdir()
    home = Home(folder)
    yield home
    cluster = home.cluster
    shutil.rmtree(cluster, ignore_errors=True)
    cluster.with_suffix(".lock").unlink(missing_ok=True)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that its parent has not asked after yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def describe(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    """Return owner, group and permissions of everything from here to the root of the file system."""
    found = {}
    for path in paths:
        for place in (path, *path.parents):
            status = place.stat()
            found[place] = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
    return found


async def interrupt(program: Program) -> int:
    """Press Ctrl-C, which strikes the whole process group, and return the exit code."""
    os.killpg(program.process.pid, signal.SIGINT)
    with trio.fail_after(20):
        return await program.process.wait()


async def test_a_newcomer_is_shown_everything_and_finds_it_again_whatever_ended_it(home: Home) -> None:
    before = describe(home.folder, Path(psycopg.__file__))
    async with home.start() as program:
        said = await program.wait_log("Ctrl-C")
        assert program.url.replace("127.0.0.1", "localhost") in said
        assert "/api/v1/register" in said
        async with talk_to(program, home.data) as service:
            await service.sign_up()
            await program.wait_log("mail to be opened")
            (queued,), (sending,) = program.events("mail queued"), program.events("mail sending")
            assert queued["mail"] == sending["mail"]
            (shown,) = program.events("mail to be opened")
            assert service.mails("ann@example.com")[0].code == shown["code"]
            token = shown["link"].rpartition("#t=")[2]
            assert (await service.post("/confirm-email", {"token": token})).status_code == 200
            await service.log_in()
        server = home.server_pid()
        assert await interrupt(program) == 0
        program.check_log()
        assert not is_running(server)
    assert describe(home.folder, Path(psycopg.__file__)) == before
    async with home.start() as program, talk_to(program, home.data) as service:
        await service.log_in()
        orphan = home.server_pid()
        assert await program.stop(signal.SIGKILL) == -signal.SIGKILL
    assert is_running(orphan)
    async with home.start() as program:
        async with talk_to(program, home.data) as service:
            await service.log_in()
        assert not is_running(orphan)
        assert "stopping an orphaned postgresql" in program.log()
        assert await interrupt(program) == 0
        program.check_log()


@as_root
async def test_as_root_no_permission_of_anything_that_is_not_ours_changes(root_home: Home) -> None:
    before = describe(root_home.folder, Path(psycopg.__file__), Path("/var/lib"))
    async with root_home.start() as program:
        async with talk_to(program, root_home.data) as service:
            await service.sign_up()
            await service.wait_mail()
        assert describe(root_home.cluster)[root_home.cluster] != before[root_home.folder]
        assert await interrupt(program) == 0
        program.check_log()
    assert describe(root_home.folder, Path(psycopg.__file__), Path("/var/lib")) == before


async def test_a_second_start_on_the_same_folder_says_so_and_ends_with_78(home: Home) -> None:
    async with home.start() as first:
        async with home.start(ready=False) as second:
            with trio.fail_after(20):
                assert await second.process.wait() == 78
            assert f"pid {first.process.pid}" in second.log()
            assert str(home.data) in second.log()
            second.check_log()
        async with talk_to(first, home.data) as service:
            await service.sign_up()
            await service.wait_mail()
        assert await interrupt(first) == 0


async def test_a_taken_port_is_told_at_once_and_ends_with_1(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        async with home.start(ready=False, port=port) as program:
            with trio.fail_after(20):
                assert await program.process.wait() == 1
    said = program.log()
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "REGSVC_HTTP_PORT" in said
    assert "Traceback" not in said


async def test_the_second_interrupt_ends_it_at_once_and_its_database_too(home: Home) -> None:
    async with home.start() as program:
        server = home.server_pid()
        async with await trio.open_tcp_stream("127.0.0.1", int(program.url.rpartition(":")[2])) as stream:
            # Half a request is in flight, which the drain waits for.
            await stream.send_all(
                b"POST /api/v1/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
            )
            os.killpg(program.process.pid, signal.SIGINT)
            await program.wait_log("http draining")
            assert await interrupt(program) == 1
        assert "ending at once" in program.log()
        program.check_log()
        await wait_until(lambda: not is_running(server))


async def test_a_database_that_dies_comes_back_by_itself(home: Home) -> None:
    async with home.start() as program:
        async with talk_to(program, home.data) as service:
            await service.sign_up()
            os.kill(home.server_pid(), signal.SIGKILL)
            await program.wait_ready(status=503)
            await program.wait_ready()
            await service.sign_up("bob@example.com")
            await service.wait_mail("bob@example.com")
        assert await interrupt(program) == 0
        program.check_log()


async def test_a_broker_that_is_set_is_used(home: Home, amqp_url: str) -> None:
    home.environ["REGSVC_AMQP_URL"] = amqp_url
    async with home.start() as program:
        async with talk_to(program, home.data) as service:
            await service.sign_up()
            await service.wait_mail()
        assert len(program.events("mail published")) == 1
        assert await interrupt(program) == 0
        program.check_log()


async def test_an_interrupt_while_it_starts_ends_it_like_any_other(home: Home) -> None:
    async with home.start(ready=False) as program:
        await program.wait_log("creating the database")
        assert await interrupt(program) == 0
        program.check_log()
        assert "regsvc is ready" not in program.log()


async def test_a_terminal_that_is_closed_ends_it_and_its_database(home: Home) -> None:
    async with home.start() as program:
        server = home.server_pid()
        assert await program.stop(signal.SIGHUP) == 0
        program.check_log()
        assert not is_running(server)


async def test_without_any_standard_stream_it_serves_and_ends_cleanly_with_its_database(home: Home) -> None:
    """The first files that it and its database open must not be taken for the streams."""
    async with home.start(prefix=CLOSED) as program:
        server = home.server_pid()
        async with talk_to(program, home.data) as service:
            await service.sign_up()
            await service.wait_mail()
        assert await program.stop() == 0
        assert program.log() == ""
        assert not is_running(server)
