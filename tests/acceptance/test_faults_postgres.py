"""The database is away, or comes and goes: 503 meanwhile, and everything is well without a restart afterwards."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest
import trio

from regsvc.security.tokens import Secrets, mint_handle
from tests.databases import run_sql
from tests.polling import wait_until
from tests.postgres_servers import PostgresServer, open_postgres
from tests.programs import run_program, serve_environ, talk_to
from tests.proxies import Proxy, Way, open_proxy
from tests.services import PASSWORD, SECRET, Service
from tests.traffic import Call, Traffic, run_traffic
from tests.websockets import open_socket

PROMISED = 2.0  # seconds until a 503, and from the database's return to the first success
BUSY = 2.0  # seconds more that a machine with much else to do may take


def unix_socket(conninfo: str) -> Path:
    """Return the socket that a URI of a test server names."""
    parameters = psycopg.conninfo.conninfo_to_dict(conninfo)
    return Path(str(parameters["host"])) / f".s.PGSQL.{parameters['port']}"


def through(proxy: Proxy, conninfo: str) -> str:
    """Return a URI of the same database by way of a proxy."""
    parameters = psycopg.conninfo.conninfo_to_dict(conninfo)
    return f"postgresql://{parameters['user']}@127.0.0.1:{proxy.port}/{parameters['dbname']}?sslmode=disable"


def count(conninfo: str, query: str) -> int:
    """Return the one number that a query gives."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def sessions(conninfo: str, condition: str = "true") -> int:
    """Count regsvc's sessions at the server."""
    return count(
        conninfo,
        "SELECT count(*) FROM pg_stat_activity"
        f" WHERE datname = current_database() AND application_name LIKE 'regsvc %' AND {condition}",
    )


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    """A bad network between the program and the database."""
    async with open_proxy(unix_socket(database)) as proxy:
        yield proxy


@pytest.fixture
async def server(short_directory: Path, root_directory: Path) -> AsyncIterator[PostgresServer]:
    """A database server to be ended."""
    async with open_postgres(short_directory, root_directory) as server:
        yield server


async def make_calls(service: Service) -> dict[str, Call]:
    """Return one call of each kind that a confirmed user makes."""
    signed_up = await service.sign_up()
    mail = await service.wait_mail()
    assert (await service.post("/confirm-email", {"token": mail.token})).status_code == 200
    me = await service.log_in()
    handle = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    login = {"email": "ann@example.com", "password": PASSWORD}

    async def register() -> httpx.Response:
        return await service.post("/register", {**login, "email": f"{uuid4()}@example.com", "name": "Ann"})

    return {
        "register": register,
        "login": partial(service.post, "/login", login),
        "me": partial(service.client.get, "/api/v1/me", headers=me),
        "registration": partial(service.client.get, signed_up.headers["Location"], headers=handle),
        "readyz": partial(service.client.get, "/readyz"),
    }


GOOD = {"register": 201, "login": 200, "me": 200, "registration": 200, "readyz": 200}


def check_answers(traffic: Traffic) -> None:
    """Make sure that every call was answered, well or with a 503 in time."""
    for outcome in traffic.outcomes:
        assert outcome.status in {GOOD[outcome.name], 503}, outcome
    for outcome in traffic.of(503):
        assert outcome.ended - outcome.began < PROMISED + BUSY, outcome


async def check_all_is_well(service: Service, calls: dict[str, Call], conninfo: str) -> None:
    """Make sure that no connection is lost: many calls at once all succeed, and nothing is left half done."""
    answers: list[tuple[str, int]] = []

    async def note(name: str, call: Call) -> None:
        answers.append((name, (await call()).status_code))

    async with trio.open_nursery() as nursery:
        for name, call in calls.items():
            for _ in range(6):
                nursery.start_soon(note, name, call)
    assert set(answers) == set(GOOD.items())
    # One that is lost stays like this for ever, one that works only for a moment.
    await wait_until(lambda: sessions(conninfo, "state <> 'idle'") == 0)
    # Eight for requests, four for work, one each for the listener, for the relay and the mailer, and for `/readyz`.
    assert sessions(conninfo) <= 8 + 4 + 4


async def test_absent_at_start_every_call_is_503_and_all_is_well_once_it_is_there(
    database: str, proxy: Proxy, tmp_path: Path
) -> None:
    await proxy.refuse()
    environ = serve_environ(through(proxy, database), tmp_path)
    registration = uuid4()
    handle = {"Regsvc-Handle": mint_handle(Secrets(SECRET.encode(), None), registration)}
    async with (
        run_program("serve", folder=tmp_path, environ=environ, ready=False) as program,
        talk_to(program, tmp_path) as service,
    ):
        await program.wait_log("http listening")
        login = {"email": "ann@example.com", "password": PASSWORD}
        calls: list[Callable[[], Awaitable[httpx.Response]]] = [
            partial(service.post, "/register", {**login, "name": "Ann"}),
            partial(service.post, "/login", login),
            partial(service.client.get, f"/api/v1/registrations/{registration}", headers=handle),
        ]
        for call in calls:
            began = trio.current_time()
            answer = await call()
            assert trio.current_time() - began < PROMISED + BUSY
            assert answer.status_code == 503, answer.text
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["code"] == "database_unavailable"
            assert int(answer.headers["Retry-After"]) > 0
        ready = await service.client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["reason"] == "database_unavailable"
        assert int(ready.headers["Retry-After"]) > 0
        await proxy.listen()
        await program.wait_ready()
        await service.sign_up()
        await service.wait_mail()
        program.check_log()
        # Why it is away is said, too.
        assert any("refused" in line.get("cause", "") for line in program.events("child failed"))


async def test_a_restart_of_the_server_costs_503s_meanwhile_and_nothing_afterwards(
    server: PostgresServer, amqp_url: str, tmp_path: Path
) -> None:
    environ = serve_environ(server.conninfo, tmp_path, amqp_url=amqp_url)
    async with (
        run_program("serve", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        calls = await make_calls(service)
        waiting = await service.sign_up("bob@example.com")
        mail = await service.wait_mail("bob@example.com")
        async with (
            open_socket(f"{service.url.replace('http', 'ws')}{waiting.headers['Location']}/live") as socket,
            run_traffic(calls) as traffic,
        ):
            await socket.send_message(json.dumps({"handle": waiting.headers["Regsvc-Handle"]}))
            await socket.get_message()
            for name, good in GOOD.items():
                await traffic.wait(name, good, since=0)
            ended = trio.current_time()
            await server.end(signal.SIGQUIT)
            for name in GOOD:
                await traffic.wait(name, 503, since=ended)
            await server.start()
            back = trio.current_time()
            for name, good in GOOD.items():
                first = await traffic.wait(name, good, since=back)
                assert first.ended - back < PROMISED + BUSY
            confirmed = await service.post("/confirm-email", {"token": mail.token})
            assert confirmed.status_code == 200, confirmed.text
            # The socket was open all the time, and hears of what happened since.
            with trio.fail_after(10):
                while json.loads(await socket.get_message())["state"] != "confirmed":
                    pass
        check_answers(traffic)
        await program.wait_ready()
        await check_all_is_well(service, calls, server.conninfo)
        program.check_log()


async def test_sessions_that_the_server_ends_cost_no_more_than_what_they_were_doing(
    database: str, tmp_path: Path
) -> None:
    environ = serve_environ(database, tmp_path)
    async with (
        run_program("serve", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        calls = await make_calls(service)
        async with run_traffic(calls) as traffic:
            for _ in range(5):
                now = trio.current_time()
                for name, good in GOOD.items():
                    await traffic.wait(name, good, since=now)
                run_sql(
                    database,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
                )
            now = trio.current_time()
            for name, good in GOOD.items():
                await traffic.wait(name, good, since=now)
        check_answers(traffic)
        await check_all_is_well(service, calls, database)
        program.check_log()


async def test_a_server_that_falls_silent_costs_a_503_in_time(
    database: str, proxy: Proxy, tmp_path: Path
) -> None:
    environ = serve_environ(through(proxy, database), tmp_path)
    async with (
        run_program("serve", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        calls = await make_calls(service)
        async with run_traffic(calls) as traffic:
            now = trio.current_time()
            for name, good in GOOD.items():
                await traffic.wait(name, good, since=now)
            proxy.black_hole = True
            now = trio.current_time()
            for name in GOOD:
                await traffic.wait(name, 503, since=now)
            proxy.black_hole = False
            proxy.reset()
            now = trio.current_time()
            for name, good in GOOD.items():
                await traffic.wait(name, good, since=now)
        check_answers(traffic)
        await check_all_is_well(service, calls, database)
        program.check_log()


async def test_nobody_is_mailed_for_a_commit_that_never_arrived_and_everybody_for_one_that_did(
    database: str, proxy: Proxy, tmp_path: Path
) -> None:
    """Both are 503 to the client: where no answer came to COMMIT, nobody can know."""
    environ = serve_environ(through(proxy, database), tmp_path)
    async with (
        run_program("serve", "--role", "api", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        # The statement that stores a sign-up is a transaction by itself, and its result is that of a NOTIFY.
        for number, (way, pattern, stored) in enumerate(
            [(Way.UP, b"INSERT INTO registrations", 0), (Way.DOWN, b"pg_notify", 1)]
        ):
            trap = proxy.trap(pattern, way, lambda: None, forward=False)
            person = {"email": f"ann{number}@example.com", "password": PASSWORD, "name": "Ann"}
            answer = await service.post("/register", person)
            assert trap.sprung.is_set()
            assert answer.status_code == 503, answer.text
            for table in ("registrations", "mails"):
                assert count(database, f"SELECT count(*) FROM {table}") == stored
        program.check_log()
        async with run_program("serve", "--role", "worker", folder=tmp_path, environ=environ) as worker:
            await service.wait_mail("ann1@example.com")
            assert await worker.stop() == 0
        assert service.mails("ann0@example.com") == []
