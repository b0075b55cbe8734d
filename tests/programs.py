"""The real program as processes of its own, the way an operator runs it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from regsvc.config import loading
from tests.browsers import LAN_NAME
from tests.databases import clone_database
from tests.services import PLAIN, SECRET, Service
from tests.suite.ports import take_port

CHEAP = ("-P", str(Path(__file__).parent / "suite" / "cheap_regsvc.py"))
_numbers = itertools.count(1)
_INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "VIRTUAL_ENV",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH",
    "SSL_CERT_FILE",
)


def clean_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without settings that whoever runs the tests may have."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ} | dict(environ)


@dataclass
class Program:
    """A running regsvc.

    Args:
        process: its process; the first of a session of its own.
        url: where it listens, if it does.
        output: the file that both its streams go into.
    """

    process: trio.Process
    url: str
    output: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def log(self) -> str:
        """Return all that it has said so far."""
        return self.output.read_text(errors="replace")

    async def wait_log(self, text: str, *, seconds: float = 30) -> str:
        """Wait until it has said something, and return all that it has said."""
        with trio.move_on_after(seconds):
            while text not in self.log() and self.process.returncode is None:  # noqa: ASYNC110 - a file has no event
                await trio.sleep(0.02)
        assert text in self.log(), self.log()
        return self.log()

    def check_log(self) -> None:
        """Make sure that there is no traceback in the log: what is expected to happen needs none."""
        assert "Traceback" not in self.log(), self.log()

    def events(self, phrase: str) -> list[dict[str, Any]]:
        """Return the log lines of one event so far; the program logs JSON."""
        lines = (
            json.loads(line)
            for line in self.log().splitlines()
            if line.startswith("{") and line.endswith("}")
        )
        return [line for line in lines if line["event"] == phrase]

    async def wait_ready(self, *, status: int = 200, seconds: float = 30) -> httpx.Response:
        """Wait until `/readyz` answers with a status."""
        return await self.wait_answer("/readyz", status, seconds=seconds)

    async def wait_answer(self, path: str, status: int, *, seconds: float = 30) -> httpx.Response:
        """Wait until a path answers with a status."""
        answer: httpx.Response | None = None
        async with httpx.AsyncClient(base_url=self.url, verify=PLAIN, timeout=10) as client:
            with trio.move_on_after(seconds):
                while True:
                    assert self.process.returncode is None, self.log()
                    try:
                        answer = await client.get(path)
                    except httpx.TransportError:
                        pass
                    else:
                        if answer.status_code == status:
                            return answer
                    await trio.sleep(0.05)
        raise AssertionError(f"{answer and answer.text}\n{self.log()}")

    async def stop(self, number: signal.Signals = signal.SIGTERM, *, seconds: float = 30) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        with trio.fail_after(seconds):
            return await self.process.wait()


@dataclass(frozen=True)
class SharedProgram:
    """A `regsvc serve` of the whole session: where it listens, its settings, where its mail goes."""

    url: str
    environ: Mapping[str, str]
    folder: Path


ALLOWED_ORIGIN = "http://shop.localhost"  # of another site whose pages may call the shared program


@pytest.fixture(scope="session")
def shared_program(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProgram]:
    """One `regsvc serve` for all tests that do not mind the others' accounts."""
    with _share_program("serve", postgres_server, tmp_path_factory.mktemp("shared")) as program:
        yield program


@pytest.fixture(scope="session")
def dev_program(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProgram]:
    """One `regsvc dev`, on a database of the tests, for all tests that do not mind the others' accounts."""
    with _share_program("dev", postgres_server, tmp_path_factory.mktemp("dev")) as program:
        yield program


@pytest.fixture(scope="session")
def lan_program(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProgram]:
    """One `regsvc serve` that people reach by plain HTTP and a name that only the tests' browser knows."""
    folder = tmp_path_factory.mktemp("lan")
    with _share_program("serve", postgres_server, folder, host=LAN_NAME) as program:
        yield program


@pytest.fixture(scope="session")
def strict_program(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedProgram]:
    """One `regsvc serve` on the LAN that asks for terms of use, and for proof of work whenever it can be due."""
    folder = tmp_path_factory.mktemp("strict")
    asked = {"challenge": "on", "terms": "2026-01=https://example.org/terms"}
    with _share_program("serve", postgres_server, folder, host=LAN_NAME, **asked) as program:
        yield program


@pytest.fixture(scope="session")
def localhost_program(
    postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedProgram]:
    """One `regsvc serve` by a name at which browsers have passkeys: they have none at an IP address."""
    folder = tmp_path_factory.mktemp("localhost")
    with _share_program("serve", postgres_server, folder, host="localhost") as program:
        yield program


@contextmanager
def _share_program(
    command: str, postgres_server: str, folder: Path, *, host: str = "127.0.0.1", **settings: str
) -> Iterator[SharedProgram]:
    port = take_port()
    with clone_database(postgres_server) as database:
        environ = serve_environ(
            database,
            folder,
            http_port=str(port),
            public_url=f"http://{host}:{port}",
            allowed_origins=ALLOWED_ORIGIN,
            webhooks_allow="127.0.0.0/8",
            **settings,
        )
        output = folder / "program.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, *CHEAP, command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=clean_environ(environ),
                cwd=folder,
            )
        try:
            deadline = time.monotonic() + 100  # less than a test has; a busy machine may need a minute
            while "http listening" not in output.read_text():
                assert process.poll() is None, output.read_text()
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.02)
            yield SharedProgram(f"http://{host}:{port}", environ, folder)
            process.terminate()
            assert process.wait(timeout=30) == 0, output.read_text()
            assert "Traceback" not in output.read_text(), output.read_text()
        finally:
            process.kill()
            process.wait()


@asynccontextmanager
async def talk_to_shared(program: SharedProgram) -> AsyncIterator[Service]:
    """Hold what speaks to the API of the session's program."""
    chosen = loading.load(program.environ, mode="dev")
    async with httpx.AsyncClient(base_url=program.url, verify=PLAIN, timeout=60) as client:
        yield Service(program.url, client, chosen, program.folder / "mail")


@pytest.fixture
async def shared_service(shared_program: SharedProgram) -> AsyncIterator[Service]:
    """The API of the session's program; other tests' accounts are there, too."""
    async with talk_to_shared(shared_program) as service:
        yield service


@asynccontextmanager
async def run_program(
    *arguments: str,
    folder: Path,
    environ: Mapping[str, str] | None = None,
    port: int | None = None,
    ready: bool = True,
    cwd: Path | None = None,
    user: int | None = None,
    python: str = sys.executable,
    prefix: Sequence[str] = (),
    cheap: bool = False,
) -> AsyncIterator[Program]:
    """Run `regsvc ARGUMENTS` as long as the block lasts; whatever is left of it then is killed.

    Args:
        arguments: of the command line.
        folder: for its output.
        environ: the settings; nothing else of ours is passed on.
        port: to listen on; a free one if None.
        ready: wait until it is.
        cwd: where it runs.
        user: whom it runs as, if not as us.
        python: what runs it.
        prefix: a command that runs the command line behind it.
        cheap: hash passwords at bcrypt's least cost.
    """
    port = port or take_port()
    whole = clean_environ({"REGSVC_HTTP_PORT": str(port), **(environ or {})})
    output = folder / f"program-{next(_numbers)}.log"
    with output.open("wb") as file:
        process = await trio.lowlevel.open_process(
            [*prefix, python, *(CHEAP if cheap else ("-m", "regsvc")), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=whole,
            cwd=cwd or folder,
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    program = Program(process, f"http://127.0.0.1:{port}", output, whole)
    try:
        if ready:
            await program.wait_ready()
        yield program
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def talk_to(program: Program, folder: Path) -> AsyncIterator[Service]:
    """Hold what tests speak to a program's API with; its mail is in the folder."""
    defaults = {"secret_key": SECRET, "smtp_url": f"maildir:{folder / 'mail'}"}  # what `dev` finds by itself
    chosen = loading.load(program.environ, mode="dev", defaults=defaults)
    async with httpx.AsyncClient(base_url=program.url, verify=PLAIN, timeout=60) as client:
        yield Service(program.url, client, chosen, folder / "mail")


def serve_environ(database: str, folder: Path, **settings: str) -> dict[str, str]:
    """Return the settings of `regsvc serve` on a database and a Maildir of a test."""
    return {
        "REGSVC_DATABASE_URL": database,
        "REGSVC_SECRET_KEY": SECRET,
        "REGSVC_SMTP_URL": f"maildir:{folder / 'mail'}",
        "REGSVC_MAIL_FROM": "regsvc <no-reply@example.org>",
        "REGSVC_PUBLIC_URL": "http://localhost:8080",
        "REGSVC_BCRYPT_COST": "10",
        "REGSVC_RATE_LIMITS": "off",
        "REGSVC_ALLOW_INSECURE": "on",
        **{f"REGSVC_{name.upper()}": value for name, value in settings.items()},
    }
