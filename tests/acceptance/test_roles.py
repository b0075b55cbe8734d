"""Several processes do the work of one, each goes on without the others, and all end in good order."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.programs import Program, run_program, serve_environ, talk_to
from tests.suite.ports import take_port


@pytest.mark.parametrize("way", ["postgresql alone", "rabbitmq"])
async def test_two_apis_and_two_workers_share_the_work(
    database: str, tmp_path: Path, way: str, request: pytest.FixtureRequest
) -> None:
    extra = {"amqp_url": request.getfixturevalue("amqp_url")} if way == "rabbitmq" else {}
    environ = serve_environ(database, tmp_path, **extra)
    async with AsyncExitStack() as stack:
        apis: list[Program] = []
        workers: list[Program] = []
        for role, programs in (("api", apis), ("worker", workers)) * 2:
            running = run_program("serve", "--role", role, folder=tmp_path, environ=environ)
            programs.append(await stack.enter_async_context(running))
        first, second = [await stack.enter_async_context(talk_to(api, tmp_path)) for api in apis]
        addresses = [f"user{n}@example.com" for n in range(24)]
        async with trio.open_nursery() as nursery:
            for n, address in enumerate(addresses):
                nursery.start_soon((first, second)[n % 2].sign_up, address)
        for address in addresses:
            await first.wait_mail(address)
        # Confirmed on one, seen on the other.
        signed_up = await first.sign_up()
        mail = await first.wait_mail()
        assert (await second.post("/confirm-email", {"token": mail.token})).status_code == 200
        shown = await first.client.get(
            signed_up.headers["Location"], headers={"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
        )
        assert shown.json()["state"] == "confirmed"
        await second.log_in()
        for program in (*apis, *workers):
            assert await program.stop() == 0
            assert "Traceback" not in program.log()
        assert all(len(first.mails(address)) == 1 for address in addresses)
        sent = [worker.log().count("mail accepted") for worker in workers]
        assert sum(sent) == len(addresses) + 1


async def test_the_api_takes_sign_ups_without_a_worker_and_a_worker_sends_without_an_api(
    database: str, tmp_path: Path
) -> None:
    environ = serve_environ(database, tmp_path)
    async with run_program("serve", "--role", "api", folder=tmp_path, environ=environ) as api:
        async with talk_to(api, tmp_path) as service:
            await service.sign_up()
        await api.stop()
    assert service.mails("ann@example.com") == []
    async with run_program("serve", "--role", "worker", folder=tmp_path, environ=environ) as worker:
        await service.wait_mail()
        assert await worker.stop() == 0


SERVING = {"quart", "werkzeug", "flask", "cryptography", "jwt"}  # what only answering people needs


async def test_a_worker_loads_no_more_than_it_works_with(database: str, tmp_path: Path) -> None:
    """Every process of the service has its memory to itself: what is imported in vain is paid for in each."""
    environ = serve_environ(database, tmp_path, metrics_allow="127.0.0.1/32")
    environ["PYTHONPROFILEIMPORTTIME"] = "1"  # Python names each module that it imports
    async with run_program("serve", "--role", "worker", folder=tmp_path, environ=environ) as worker:
        assert (await worker.wait_answer("/metrics", 200)).text.startswith("# HELP")
        assert (await worker.wait_answer("/api/v1/me", 404)).json()["code"] == "not_found"
        assert await worker.stop() == 0
    lines = [line for line in worker.log().splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert {"trio", "psycopg"} <= imported
    assert not imported & SERVING
    assert not imported & {"aiormq", "trio_asyncio"}, "there is no broker"


async def test_a_worker_works_on_when_its_port_is_taken(database: str, tmp_path: Path) -> None:
    port = take_port()
    environ = serve_environ(database, tmp_path)
    start = partial(run_program, folder=tmp_path, environ=environ, port=port)
    async with (
        start("serve", "--role", "api") as api,
        start("serve", "--role", "worker", ready=False) as worker,
    ):
        await worker.wait_log("child failed")
        async with talk_to(api, tmp_path) as service:
            await service.sign_up()
            await service.wait_mail()
        assert await worker.stop() == 0


async def test_an_api_whose_port_is_taken_gives_up_with_1(database: str, tmp_path: Path) -> None:
    port = take_port()
    environ = serve_environ(database, tmp_path)
    start = partial(run_program, "serve", folder=tmp_path, environ=environ, port=port)
    async with start(), start(ready=False) as second:
        with trio.fail_after(40):
            assert await second.process.wait() == 1
        assert "Traceback" not in second.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_ends_it_in_good_order(
    database: str, tmp_path: Path, number: signal.Signals
) -> None:
    environ = serve_environ(database, tmp_path)
    async with run_program("serve", folder=tmp_path, environ=environ) as program:
        assert await program.stop(number, seconds=25) == 0
        assert "Traceback" not in program.log()


async def test_bad_settings_are_named_all_at_once_with_78(tmp_path: Path) -> None:
    environ = {"REGSVC_SECRET_KEY": "short-secret", "REGSVC_DATABSE_URL": "postgresql:///x"}
    async with run_program("serve", folder=tmp_path, environ=environ, ready=False) as program:
        assert await program.process.wait() == 78
        said = program.log()
    assert "REGSVC_SECRET_KEY" in said
    assert "REGSVC_DATABSE_URL" in said
    assert "REGSVC_DATABASE_URL" in said
    assert "REGSVC_PUBLIC_URL" in said
    assert "short-secret" not in said


async def test_another_schema_is_refused_with_78_and_the_command_to_run(
    postgres_server: str, tmp_path: Path
) -> None:
    async with run_program(
        "serve", folder=tmp_path, environ=serve_environ(postgres_server, tmp_path), ready=False
    ) as program:
        assert await program.process.wait() == 78
        assert "regsvc migrate" in program.log()
