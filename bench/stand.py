"""What the programs here stand on: a database, a broker, a mail sink and regsvc itself, ended with their block.

Everything is a process of its own below this one, on loopback, with its data in a folder that is removed.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import structlog
import trio
from keeper import keep

from regsvc.postgres.embedded import EmbeddedPostgres
from regsvc.postgres.migrate import migrate
from tests.nodes import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

SECRET = "a secret of the benches that is long enough"
SINK = Path(__file__).with_name("smtp_sink.py")
_TICKS = os.sysconf("SC_CLK_TCK")


def run(main: Callable[..., Awaitable[None]], *arguments: object) -> None:
    """Run a bench; SIGTERM ends it as Ctrl-C does, with all that it started, and what it exits with is said plainly."""
    keep()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        trio.run(main, *arguments)
    except BaseException as error:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, SystemExit | KeyboardInterrupt):
            sys.exit(str(error) or "interrupted")
        raise


def be_quiet() -> None:
    """Keep what regsvc logs in this process off the terminal, warnings apart."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))


@contextmanager
def short_folder() -> Iterator[Path]:
    """Hold a folder that other accounts may enter (a database server is never root) and whose path is short."""
    with tempfile.TemporaryDirectory(prefix="regsvc-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@asynccontextmanager
async def open_database(folder: Path) -> AsyncIterator[str]:
    """Run a PostgreSQL as `regsvc dev` does, every commit on disk, and give the URI of a database with the schema."""
    async with EmbeddedPostgres(folder / "database", root_dir=folder) as server:
        await migrate(server.conninfo)
        yield server.conninfo


async def new_database(server: str, name: str) -> str:
    """Create an empty database beside the one with this URI and return its URI."""
    await execute(server, f"CREATE DATABASE {name}")
    return server.replace("@/postgres?", f"@/{name}?")


@contextmanager
def open_broker() -> Iterator[str]:
    """Run a RabbitMQ node and give its URL."""
    with PrivateBroker() as broker:
        yield broker.url()


@dataclass(frozen=True)
class Sink:
    """A mail server that accepts everything at once."""

    url: str
    process: subprocess.Popen[str]

    async def wait_block(self) -> float:
        """Wait for the next so many mails and return the seconds that they took."""
        assert self.process.stdout is not None  # noqa: S101 - open_sink makes it
        line = await trio.to_thread.run_sync(self.process.stdout.readline, abandon_on_cancel=True)
        return float(line.split()[2])


@contextmanager
def open_sink(every: int) -> Iterator[Sink]:
    """Run the sink; it speaks up after every so many mails."""
    command = [sys.executable, str(SINK), "--every", str(every)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - said so above
            yield Sink(f"smtp://{process.stdout.readline().split()[1]}", process)
        finally:
            process.terminate()


@dataclass(frozen=True)
class Program:
    """A running regsvc."""

    url: str
    process: subprocess.Popen[bytes]
    output: Path

    def client(self) -> Client:
        """Return what speaks to it over a connection of its own."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return Client(host, int(port))

    def resident(self) -> int:
        """Return the bytes of memory that it holds at this moment."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024

    def processor_seconds(self) -> float:
        """Return the processor time that it took so far, all its threads, without the processes that it started."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_ready(self, seconds: float = 30) -> None:
        """Wait until `/readyz` says ok."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):  # noqa: S310 - http, of our own
                    return
            except urllib.error.URLError:
                time.sleep(0.02)
        raise SystemExit(f"regsvc is not ready:\n{self.output.read_text()[-4000:]}")


@contextmanager
def open_program(
    folder: Path,
    *arguments: str,
    environ: Mapping[str, str],
    wait: bool = True,
    python: Path = Path(sys.executable),
    package: Path | None = None,
) -> Iterator[Program]:
    """Run `regsvc ARGUMENTS`, its log in a file as a container's would be in a pipe.

    Args:
        folder: for its log.
        arguments: of its command line.
        environ: its settings.
        wait: until it is ready.
        python: interpreter of the environment that has it.
        package: folder of another version of it, that takes the place of this one.
    """
    port = free_port()
    settings = {
        f"REGSVC_{name.upper()}": value for name, value in ({"http_port": str(port)} | dict(environ)).items()
    }
    output = folder / f"regsvc-{port}.log"
    with (
        output.open("wb") as file,
        subprocess.Popen(
            [python, "-m", "regsvc", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("REGSVC_")}
            | settings
            | ({} if package is None else {"PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"}),
            start_new_session=True,
        ) as process,
    ):
        program = Program(f"http://127.0.0.1:{port}", process, output)
        try:
            if wait:
                program.wait_ready()
            yield program
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def serve_settings(database: str, smtp_url: str, **settings: str) -> dict[str, str]:
    """Return settings of `regsvc serve` as they come, for loopback."""
    return {
        "database_url": database,
        "secret_key": SECRET,
        "smtp_url": smtp_url,
        "mail_from": "regsvc <no-reply@example.org>",
        "public_url": "http://localhost:8080",
        "allow_insecure": "on",
        **settings,
    }


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


async def execute(database: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Execute one statement on a connection of its own and return its rows."""

    def run() -> list[tuple[Any, ...]]:
        with psycopg.connect(database, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    return await trio.to_thread.run_sync(run)


async def add_due_mails(database: str, count: int) -> None:
    """Insert registrations whose mails are due, as so many sign-ups leave them behind."""
    await execute(
        database,
        """
        WITH people AS (
            INSERT INTO registrations (id, email, email_key, name, locale, password_hash, origin, client)
            SELECT gen_random_uuid(), email, email, 'Person ' || n, 'en', '$regsvc$none', '192.0.2.0/24', 'curl'
              FROM generate_series(1, %s) n, format('person%%s@d%%s.example.org', n, n %% 20) AS email
            RETURNING id
        )
        INSERT INTO mails (id, registration_id, kind, due_at)
        SELECT gen_random_uuid(), id, 'signup', clock_timestamp() - interval '1 minute' FROM people
        """,
        count,
    )
    await execute(database, "VACUUM ANALYZE mails, registrations")


@dataclass
class Client:
    """One kept connection that speaks just enough HTTP/1.1, cheaply: the generator of load shares the cores."""

    host: str
    port: int
    _stream: trio.SocketStream | None = None
    _buffer: bytes = b""

    async def request(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request and return status, headers in lower case, and content."""
        if self._stream is None:
            self._stream = await trio.open_tcp_stream(self.host, self.port)
        content = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {self.host}:{self.port}",
            f"Content-Length: {len(content)}",
        ]
        lines += ["Content-Type: application/json"] if content else []
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        await self._stream.send_all("\r\n".join([*lines, "", ""]).encode() + content)
        head, _, self._buffer = (await self._until(lambda octets: b"\r\n\r\n" in octets)).partition(
            b"\r\n\r\n"
        )
        status, *fields = head.decode().split("\r\n")
        found = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        length = int(found.get("content-length", 0))
        whole = await self._until(lambda octets: len(octets) >= length)
        self._buffer = whole[length:]
        if found.get("connection") == "close":
            await self.aclose()
        return int(status.split()[1]), found, whole[:length]

    async def _until(self, enough: Callable[[bytes], bool]) -> bytes:
        assert self._stream is not None  # noqa: S101 - the caller opened it
        while not enough(self._buffer):
            octets = await self._stream.receive_some()
            if not octets:
                raise SystemExit("regsvc closed a connection in the middle of an answer")
            self._buffer += octets
        return self._buffer

    async def aclose(self) -> None:
        """Close the connection."""
        stream, self._stream, self._buffer = self._stream, None, b""
        if stream is not None:
            await trio.aclose_forcefully(stream)


def computed() -> dict[str, float]:
    """Return the seconds of processor time that this process's descendants have used, by what they are."""
    used: dict[str, float] = {}
    parents: dict[int, int] = {}
    found: list[tuple[int, str, float]] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            head, _, tail = (entry / "stat").read_text().rpartition(")")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        fields = tail.split()
        parents[int(entry.name)] = int(fields[1])
        name = head.partition("(")[2]
        # Those of children that have ended count with their parent: a database's session, for one.
        found.append((int(entry.name), _name(name, command), sum(map(int, fields[11:15])) / _TICKS))
    for pid, name, seconds in found:
        if _descends(pid, parents):
            used[name] = used.get(name, 0.0) + seconds
    return used


def _name(name: str, command: str) -> str:
    if name == "beam.smp":
        return "RabbitMQ"
    if name.startswith("postgres"):
        return "PostgreSQL"
    return "sink" if SINK.name in command else "regsvc" if "-m regsvc" in command else "other"


def _descends(pid: int, parents: Mapping[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == os.getpid():
            return True
    return False


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of them lies."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def describe_machine() -> str:
    """Say what this runs on and what else it is busy with."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"{cores} cores, Python {sys.version.split()[0]}, load average {os.getloadavg()[0]:.1f}"


def median(values: Sequence[float]) -> float:
    """Return the middle value."""
    return statistics.median(values)
