"""A part of the program that crashes again and again is restarted alone: nobody who asks over HTTP notices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from uuid import uuid4

import httpx
import trio

from regsvc.config import loading
from regsvc.parts import open_parts
from regsvc.program import report
from regsvc.roles import make_children
from regsvc.supervisor import Backoff, Child, ChildStatistics, Supervisor, SupervisorStatistics
from tests.programs import serve_environ
from tests.services import PASSWORD, PLAIN
from tests.suite.ports import take_port
from tests.traffic import Call, run_traffic

OFTEN = 100
HURRIED = Backoff(initial=0.01, cap=0.04)


async def crash(
    lives: Iterator[int], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Fail in another way every time."""
    life = next(lives)
    if life % 2:
        task_status.started()
        await trio.lowlevel.checkpoint()
    match life % 5:
        case 0:
            raise ZeroDivisionError
        case 1:
            raise ExceptionGroup("several", [ValueError(), OSError()])
        case 2:
            raise asyncio.CancelledError
        case 3:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                raise KeyError(life)
    # A return that nobody asked for is a failure, too.


async def test_consumers_that_crash_a_hundred_times_cost_no_request(database: str, tmp_path: Path) -> None:
    port = take_port()
    nobody = f"amqp://127.0.0.1:{take_port()}/"
    environ = serve_environ(database, tmp_path, amqp_url=nobody, http_port=str(port))
    chosen = loading.load(environ, mode="dev")
    stopping = trio.Event()
    supervisors: list[Supervisor] = []

    def statistics() -> SupervisorStatistics:
        return supervisors[0].statistics()

    def child(name: str) -> ChildStatistics:
        (found,) = [child for child in statistics().children if child.name == name]
        return found

    async with (
        open_parts(chosen, stopping, statistics, print) as parts,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, verify=PLAIN) as client,
        trio.open_nursery() as nursery,
    ):
        real = {child.name: child for child in make_children(parts)}
        consumers = ("relay", "subscriber")
        children = [replace(real.pop(name), backoff=HURRIED) for name in consumers]
        children += [*real.values(), Child("broken", partial(crash, count(1)), HURRIED)]
        supervisors.append(Supervisor(children, stopping=stopping, hook=report))
        await nursery.start(supervisors[0].run)

        async def register() -> httpx.Response:
            person = {"email": f"{uuid4()}@example.com", "password": PASSWORD, "name": "Ann"}
            return await client.post("/api/v1/register", json=person)

        calls: dict[str, Call] = {
            "register": register,
            "readyz": partial(client.get, "/readyz"),
            "healthz": partial(client.get, "/healthz"),
            "missing": partial(client.get, "/api/v1/me"),
        }
        with trio.fail_after(60):
            async with run_traffic(calls) as traffic:
                crashing = (*consumers, "broken")
                while any(child(name).failures < OFTEN for name in crashing):
                    await traffic.wait("readyz", 200, since=trio.current_time())
        assert set(traffic.statuses()) == {201, 200, 401}
        # The back-off is visible, and what does not crash was never touched.
        for name in crashing:
            assert child(name).failures_in_a_row >= OFTEN
        for name in real:
            assert (child(name).lives, child(name).failures) == (1, 0)
        ready = (await client.get("/readyz")).json()
        assert ready["status"] == "degraded"
        assert ready["children"]["broken"]["failures"] >= OFTEN
        assert ready["children"]["broken"]["last_error"]
        assert ready["children"]["broken"]["failures_in_a_row"] >= OFTEN
        stopping.set()
