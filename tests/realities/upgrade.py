"""From the released version to this one and back, process by process, while people sign up: nothing fails.

    make upgrade [UPGRADE_RATE=20]

Two API processes and two workers of the released version run on their own schema. This version migrates it, and takes
the place of one process after the other; then the released version takes them back. Meanwhile people sign up, press the
link in their mail, log in, refresh and log out, each request by any process that is ready. The released version is
built from the commit that docs/operations.md names.
"""

from __future__ import annotations

import io
import itertools
import os
import random
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import trio

from tests.databases import name_database, run_sql
from tests.programs import Program, clean_environ, run_program, serve_environ
from tests.services import PASSWORD, PLAIN, Mail
from tests.smtp_servers import ScriptedServer

pytestmark = pytest.mark.timeout(900)

CHECKOUT = Path(__file__).parents[2]
RATE = float(os.environ.get("UPGRADE_RATE", "20"))  # sign-ups a second
CALM = 8.0  # seconds of traffic between two changes
READING = 6.0  # seconds for which a reader is in the way of the migrations
_MOST_SHED = 20  # tries of a call that is shed
PATIENCE = 90.0  # seconds for the last mail


def find_release() -> str:
    """Return the commit of the released version."""
    page = (CHECKOUT / "docs" / "operations.md").read_text("utf-8")
    found = re.search(r"commit\s+`([0-9a-f]{40})`", page)
    assert found is not None, "docs/operations.md names no commit"
    return found[1]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build the released version and return its interpreter; or the one that REGSVC_TEST_RELEASED names."""
    if built := os.environ.get("REGSVC_TEST_RELEASED"):
        return built
    commit, folder = find_release(), tmp_path_factory.mktemp("released")
    packed = subprocess.run(["git", "archive", commit], cwd=CHECKOUT, check=False, capture_output=True)
    if packed.returncode:
        pytest.fail(
            f"the released version, commit {commit[:7]}, is not in this clone's history: "
            f"git fetch --unshallow ({packed.stderr.decode().strip()})"
        )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder / "source", filter="data")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    pip: list[str | Path] = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", folder / "source" / "requirements" / "base.txt"], check=True)
    subprocess.run([*pip, "--no-deps", folder / "source"], check=True)
    return str(python)


@pytest.fixture
def empty_database(postgres_server: str) -> Iterator[str]:
    """Hold a database without a schema."""
    run_sql(postgres_server, "CREATE DATABASE upgraded")
    yield name_database(postgres_server, "upgraded")
    run_sql(postgres_server, "DROP DATABASE upgraded WITH (FORCE)")


@dataclass
class Balancer:
    """Passes each request to one of the processes that are ready, as a proxy with health checks does."""

    ready: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    shed: int = 0
    _turns: Iterator[int] = field(default_factory=itertools.count)

    async def watch(self, program: Program, *, task_status: trio.TaskStatus[None]) -> None:
        """Ask a process ten times a second whether it is ready, until cancelled."""
        try:
            async with httpx.AsyncClient(base_url=program.url, verify=PLAIN, timeout=2) as client:
                while True:
                    try:
                        fine = (await client.get("/readyz")).status_code == 200
                    except httpx.TransportError:
                        fine = False
                    if fine != (program.url in self.ready):
                        (self.ready.append if fine else self.ready.remove)(program.url)
                    if fine:
                        task_status.started()
                        task_status = trio.TASK_STATUS_IGNORED
                    await trio.sleep(0.1)
        finally:
            if program.url in self.ready:
                self.ready.remove(program.url)

    async def call(self, method: str, path: str, expected: int, **how: Any) -> Any:
        """Make a call and return what it answers; any other status than the expected one is a failure.

        A machine too small for the rate sheds load, with versions side by side or not: such calls are counted apart,
        and made again after the time that the answer names.
        """
        for _ in range(_MOST_SHED):
            answer = await self._try(method, path, expected, **how)
            if not isinstance(answer, float):
                return answer
            self.shed += 1
            await trio.sleep(answer)
        self.failures.append(f"{method} {path}: shed {_MOST_SHED} times")
        return None

    async def _try(self, method: str, path: str, expected: int, **how: Any) -> Any:
        url = self.ready[next(self._turns) % len(self.ready)] if self.ready else ""
        try:
            async with httpx.AsyncClient(base_url=url, verify=PLAIN, timeout=30) as client:
                answer = await client.request(method, f"/api/v1{path}", **how)
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            self.failures.append(f"{method} {path} at {url}: {error!r}")
            return None
        self.statuses[f"{method} {path} {answer.status_code}"] += 1
        if answer.status_code == 503 and answer.json()["code"] == "overloaded":
            return float(answer.headers["Retry-After"])
        if answer.status_code != expected:
            self.failures.append(f"{method} {path} at {url}: {answer.status_code} {answer.text}")
            return None
        return answer.json() if answer.content else {}


@dataclass
class People:
    """Those who sign up, and how far each has come."""

    balancer: Balancer
    smtp: ScriptedServer
    signed_up: list[str] = field(default_factory=list)
    begun: int = 0
    ended: int = 0
    done: int = 0
    _mails: dict[str, Mail] = field(default_factory=dict)
    _read: int = 0

    def find_mail(self, address: str) -> Mail | None:
        """Return the mail to an address, if it is there."""
        for mail in self.smtp.mails[self._read :]:
            message = message_from_bytes(mail.data, policy=policy.default)
            body = message.get_body(("plain",))
            assert body is not None
            self._mails[mail.recipient] = Mail(message, body.get_content().replace("\r\n", "\n"))
        self._read = len(self.smtp.mails)
        return self._mails.get(address)

    async def live(self, number: int) -> None:
        """Sign up, press the link, log in, look, refresh after a while, look again and log out."""
        address, call = f"person{number}@example.com", self.balancer.call
        body = {"email": address, "password": PASSWORD, "name": f"Person {number}"}
        if await call("POST", "/register", 201, json=body) is None:
            return
        self.signed_up.append(address)
        with trio.move_on_after(PATIENCE):
            while (mail := self.find_mail(address)) is None:  # noqa: ASYNC110 - whoever reads first tells no other
                await trio.sleep(0.1)
        if mail is None:
            return  # counted as lost
        await trio.sleep(random.uniform(0, 3))
        await call("POST", "/confirm-email", 200, json={"token": mail.token})
        tokens = await call("POST", "/login", 200, json={"email": address, "password": PASSWORD})
        for pause in (0.5, 6.0, 6.0):
            if tokens is None:
                return
            bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
            await call("GET", "/me", 200, headers=bearer)
            await trio.sleep(random.uniform(0, pause))
            body = {"refresh_token": tokens["refresh_token"]}
            tokens = await call("POST", "/token/refresh", 200, json=body)
        if tokens is not None:
            bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
            logged_out = await call("POST", "/logout", 204, headers=bearer)
            self.done += logged_out is not None

    async def begin(self, number: int) -> None:
        """Live, and be counted at the end."""
        try:
            await self.live(number)
        finally:
            self.ended += 1

    async def arrive(self, nursery: trio.Nursery) -> None:
        """Have so many people a second begin, until cancelled."""
        for number in itertools.count():
            nursery.start_soon(self.begin, number)
            self.begun += 1
            await trio.sleep(1 / RATE)


@dataclass
class Seat:
    """One place of the deployment, which a process has at a time."""

    balancer: Balancer
    role: str
    folder: Path
    environ: dict[str, str]
    _leave: trio.Event | None = None
    _left: trio.Event | None = None

    async def take(self, nursery: trio.Nursery, python: str) -> None:
        """Start a process, and when it is ready stop the one before it, as a roll-out does."""
        leave, left = self._leave, self._left
        self._leave, self._left = trio.Event(), trio.Event()
        await nursery.start(self._serve, python, self._leave, self._left)
        if leave is not None and left is not None:
            leave.set()
            await left.wait()

    async def empty(self) -> None:
        """Stop the process."""
        assert self._leave is not None
        assert self._left is not None
        self._leave.set()
        await self._left.wait()

    async def _serve(
        self, python: str, leave: trio.Event, left: trio.Event, *, task_status: trio.TaskStatus[None]
    ) -> None:
        arguments = ("serve", "--role", self.role)
        async with (
            run_program(*arguments, folder=self.folder, environ=self.environ, python=python) as program,
            trio.open_nursery() as nursery,
        ):
            if self.role == "api":
                await nursery.start(self.balancer.watch, program)
            task_status.started()
            await leave.wait()
            assert await program.stop(seconds=40) == 0, program.log()
            nursery.cancel_scope.cancel()
        program.check_log()
        left.set()


def migrate(python: str, environ: dict[str, str]) -> None:
    run = subprocess.run(
        [python, "-m", "regsvc", "migrate"],
        env=clean_environ(environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr


async def migrate_beside_a_reader(environ: dict[str, str], database: str) -> None:
    """Migrate while a transaction that has read the tables stays open for a while, as a backup's does."""
    with psycopg.connect(database) as reader:
        for table in ("users", "registrations", "mails", "sessions", "audit_events"):
            reader.execute(f"SELECT FROM {table} LIMIT 1".encode())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, migrate, sys.executable, environ)
            await trio.sleep(READING)
            reader.rollback()


async def test_nothing_fails_while_versions_follow_each_other(
    released: str, empty_database: str, amqp_url: str, tmp_path: Path
) -> None:
    async with ScriptedServer().running() as smtp, trio.open_nursery() as nursery:
        environ = serve_environ(empty_database, tmp_path, amqp_url=amqp_url, smtp_url=smtp.url)
        await trio.to_thread.run_sync(migrate, released, environ)
        balancer = Balancer()
        people = People(balancer, smtp)
        seats = [Seat(balancer, role, tmp_path, environ) for role in ("api", "api", "worker", "worker")]
        for seat in seats:
            await seat.take(nursery, released)
        arriving = trio.CancelScope()

        async def arrive() -> None:
            with arriving:
                await people.arrive(nursery)

        nursery.start_soon(arrive)
        await trio.sleep(CALM)
        await migrate_beside_a_reader(environ, empty_database)
        for python in (sys.executable, released):
            await trio.sleep(CALM)
            for seat in seats:
                await seat.take(nursery, python)
                print(f"{seat.role} replaced; {len(people.signed_up)} signed up")  # noqa: T201
                await trio.sleep(CALM / 4)
        await trio.sleep(CALM)
        arriving.cancel()
        with trio.move_on_after(PATIENCE):
            while people.ended < people.begun:  # noqa: ASYNC110 - a number
                await trio.sleep(0.2)
        for seat in seats:
            await seat.empty()
        nursery.cancel_scope.cancel()
    mails = Counter(mail.recipient for mail in smtp.mails)
    lost = [address for address in people.signed_up if address not in mails]
    doubled = {address: count for address, count in mails.items() if count > 1}
    print(  # noqa: T201
        f"{len(people.signed_up)} signed up, {people.done} went all the way, {sum(balancer.statuses.values())} calls; "
        f"{len(balancer.failures)} failed, {len(lost)} lost, {len(doubled)} doubled; {balancer.shed} shed"
    )
    assert balancer.failures == [], Counter(text[:160] for text in balancer.failures)
    assert lost == []
    assert doubled == {}
    assert people.done == len(people.signed_up)
