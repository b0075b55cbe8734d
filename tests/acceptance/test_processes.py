"""Several processes under one supervisor: they share the addresses, die alone, come back, and stop together."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.programs import Program, run_program, serve_environ, talk_to

DEADLINE = 60.0  # seconds for anything that is waited for


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that was not reaped is no longer alive either.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


async def wait_gone(*pids: int) -> None:
    with trio.fail_after(DEADLINE):
        while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110 - not our children
            await trio.sleep(0.02)


async def look(url: str) -> dict[str, Any] | None:
    """What one of the processes says of itself and of the others, over a connection of its own."""
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        try:
            answer = await client.get("/readyz")
        except httpx.TransportError:
            return None
        body: dict[str, Any] = answer.json()
        return body if "processes" in body else None


async def wait_processes(url: str, *states: str, failures: int = 0) -> dict[str, Any]:
    """Wait until a process says that all have these states, and return what it says."""
    shown: dict[str, Any] | None = None
    with trio.move_on_after(DEADLINE):
        while True:
            shown = await look(url)
            if shown is not None:
                processes = shown["processes"].values()
                found = sorted(process["state"] for process in processes)
                if found == sorted(states) and sum(each["failures"] for each in processes) >= failures:
                    return shown
            await trio.sleep(0.05)
    raise AssertionError(shown)


def pids_of(shown: dict[str, Any]) -> dict[str, int]:
    return {number: process["pid"] for number, process in shown["processes"].items()}


@asynccontextmanager
async def run_family(
    database: str, tmp_path: Path, *arguments: str, **extra: str
) -> AsyncIterator[tuple[Program, dict[str, Any]]]:
    environ = serve_environ(database, tmp_path, **extra)
    run = run_program("serve", *arguments, folder=tmp_path, environ=environ, ready=False)
    async with run as program:
        with trio.move_on_after(DEADLINE):
            shown = await wait_processes(program.url, "running", "running")
            pids = pids_of(shown)
            try:
                yield program, shown
            finally:
                with trio.CancelScope(shield=True):
                    if program.process.returncode is None:
                        program.process.kill()
                    await wait_gone(*pids.values())
            return
        raise AssertionError(program.log())


async def test_two_processes_serve_one_address_send_mail_and_stop_together(
    database: str, tmp_path: Path
) -> None:
    """Both are asked, both tell the metrics of both, and a SIGTERM ends all with 0."""
    async with run_family(database, tmp_path, "--processes", "2") as (program, shown):
        pids = pids_of(shown)
        assert len(set(pids.values()) | {program.process.pid}) == 3
        async with talk_to(program, tmp_path) as service:
            for number in range(6):
                await service.sign_up(f"user{number}@example.com")
            for number in range(6):
                await service.wait_mail(f"user{number}@example.com")
        async with httpx.AsyncClient(base_url=program.url, timeout=10) as client:
            metrics = (await client.get("/metrics")).text
        assert set(re.findall(r"^regsvc_process_running{process=.(\d).} 1\.0$", metrics, re.MULTILINE)) == {
            "1",
            "2",
        }
        sent = re.findall(r'^regsvc_mails_total{outcome="sent",process="(\d)"} (\d+)', metrics, re.MULTILINE)
        assert sum(int(count) for _, count in sent) == 6, metrics
        assert metrics.count("# TYPE regsvc_mails_total counter") == 1
        assert await program.stop() == 0
        program.check_log()
        assert {line["process"] for line in program.events("http drained")} == {1, 2}
        await wait_gone(*pids.values())


async def test_a_process_that_is_killed_comes_back_and_the_other_serves_on(
    database: str, tmp_path: Path
) -> None:
    async with run_family(database, tmp_path, processes="2") as (program, shown):
        victim = shown["processes"]["2"]["pid"]
        os.kill(victim, signal.SIGKILL)
        await wait_gone(victim)
        for _ in range(20):  # new connections; none goes to the one that is gone
            async with httpx.AsyncClient(base_url=program.url, timeout=10) as client:
                assert (await client.get("/healthz")).status_code == 200
        again = await wait_processes(program.url, "running", "running", failures=1)
        assert again["processes"]["2"]["pid"] != victim
        assert again["processes"]["2"]["last_error"] == "ProcessDiedError: ended by SIGKILL"
        assert again["processes"]["1"] == shown["processes"]["1"]
        assert await program.stop() == 0
        (died,) = program.events("process died")
        assert died["process"] == 2


async def test_a_process_that_dies_again_and_again_is_given_longer_pauses_and_readiness_says_so(
    database: str, tmp_path: Path
) -> None:
    async with run_family(database, tmp_path, processes="2") as (program, shown):
        pid = shown["processes"]["1"]["pid"]
        for times in range(1, 4):
            os.kill(pid, signal.SIGKILL)
            waiting = await wait_processes(program.url, "waiting", "running", failures=times)
            assert waiting["status"] == "degraded"
            assert waiting["processes"]["1"]["failures_in_a_row"] == times
            assert waiting["processes"]["1"]["next_try_in"] is not None
            if times < 3:
                again = await wait_processes(program.url, "running", "running", failures=times)
                pid = again["processes"]["1"]["pid"]
        pauses = [event["next_try_in"] for event in program.events("process died")]
        assert pauses == sorted(pauses)
        assert pauses[-1] > 2 * pauses[0]
        assert await program.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_process_outlives_its_supervisor(
    database: str, tmp_path: Path, number: signal.Signals
) -> None:
    async with run_family(database, tmp_path, processes="2") as (program, shown):
        program.process.send_signal(number)
        await wait_gone(*pids_of(shown).values())
        program.check_log()


async def test_a_configuration_that_one_process_refuses_ends_all_with_78(
    postgres_server: str, tmp_path: Path
) -> None:
    """A database without the schema: only the processes look at it."""
    environ = serve_environ(postgres_server, tmp_path, processes="2")
    async with run_program("serve", folder=tmp_path, environ=environ, ready=False) as program:
        with trio.fail_after(DEADLINE):
            assert await program.process.wait() == 78
        assert "regsvc migrate" in program.log()
        program.check_log()


async def test_an_address_that_is_taken_ends_all_with_1(database: str, tmp_path: Path) -> None:
    """Also if the other program would share its port."""
    async with run_family(database, tmp_path, processes="2") as (program, _):
        port = int(program.url.rpartition(":")[2])
        environ = serve_environ(database, tmp_path, processes="2")
        other = run_program("serve", folder=tmp_path, environ=environ, port=port, ready=False)
        async with other as second:
            with trio.fail_after(DEADLINE):
                assert await second.process.wait() == 1
            assert "cannot listen on" in second.log()
            second.check_log()


async def test_processes_share_a_unix_socket_and_several_addresses(database: str, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    hosts = f"unix:{path},127.0.0.1,[::1]"
    # What Kubernetes sets for Services called `regsvc` and `regsvc-http` is ignored, with a line.
    links = {"port": "tcp://10.96.0.12:8080", "http_service_host": "10.96.0.13"}
    async with run_family(database, tmp_path, processes="2", http_host=hosts, **links) as (program, shown):
        (ignored, *_) = program.events("variables of Kubernetes Services ignored")
        assert ignored["names"] == ["REGSVC_HTTP_SERVICE_HOST", "REGSVC_PORT"]
        port = program.url.rpartition(":")[2]
        over_unix = httpx.AsyncHTTPTransport(uds=str(path))
        for url, transport in (
            ("http://localhost", over_unix),
            (f"http://127.0.0.1:{port}", None),
            (f"http://[::1]:{port}", None),
        ):
            async with httpx.AsyncClient(base_url=url, transport=transport, timeout=10) as client:
                assert (await client.get("/healthz")).status_code == 200
                probe = await client.get("/readyz", headers={"Host": "10.244.1.7:8080"})
                assert probe.status_code == 200, "a kubelet names the pod"
        os.kill(shown["processes"]["1"]["pid"], signal.SIGKILL)
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path)), timeout=30) as client:
            assert (await client.get("http://localhost/healthz")).status_code == 200
        assert await program.stop() == 0
        assert not path.exists()


async def test_workers_send_as_several_processes(database: str, tmp_path: Path) -> None:
    async with run_family(database, tmp_path, "--role", "worker", processes="2") as (program, _):
        assert await program.stop() == 0
        program.check_log()
