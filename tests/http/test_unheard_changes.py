"""Changes of which no notification came: those who wait are shown the truth all the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
import trio
import trio.testing

from regsvc.accounts.registrations.registration import list_seqs
from regsvc.consumer import review
from regsvc.consumer.review import run_review
from regsvc.live import LiveHub
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import sign_up
from tests.http.test_sockets import read_end, socket_url
from tests.polling import wait_until
from tests.services import Service, run_test_service
from tests.websockets import open_socket

SILENT_CHANGE = "UPDATE registrations SET seq = seq + 1, attempts = attempts + 1 WHERE id = %s"


async def wait_waiting(client: httpx.AsyncClient) -> None:
    """Wait until a long poll waits for a change."""
    with trio.fail_after(10):
        while "regsvc_live_waiters 1.0" not in (await client.get("/metrics")).text:
            await trio.lowlevel.checkpoint()


async def test_a_long_poll_reads_once_more_when_its_time_is_over(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    async with run_test_service(database, tmp_path) as service:
        signed_up = await service.sign_up()
        await service.wait_mail()
        url = signed_up.headers["Location"]
        headers = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
        with trio.fail_after(20):  # until the mail is booked as sent
            seen = (await service.client.get(url, headers=headers)).json()
            while seen["state"] != "sent":
                poll = f"{url}?wait=5&seq={seen['seq']}"
                seen = (await service.client.get(poll, headers=headers)).json()
        answers: list[int] = []

        async def wait_change() -> None:
            answer = await service.client.get(f"{url}?wait=2&seq={seen['seq']}", headers=headers)
            answers.append(answer.json()["seq"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_change)
            await wait_waiting(service.client)
            async with pool.connection() as conn:
                await conn.execute(SILENT_CHANGE, [seen["id"]])
        assert answers == [seen["seq"] + 1]


async def test_the_review_wakes_those_who_wait_for_what_moved_and_no_others(pool: Pool) -> None:
    hub, stopping = LiveHub(), trio.Event()
    moved, still, gone = (await sign_up(pool)).id, (await sign_up(pool)).id, uuid4()
    woken: list[object] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:

            async def wait(which: object, *, task_status: trio.TaskStatus[None]) -> None:
                with hub.waiting(which) as waiter:  # type: ignore[arg-type]  # ids
                    waiter.seen = 1
                    task_status.started()
                    await waiter.wait_change()
                    woken.append(which)

            for which in (moved, still, gone):
                await nursery.start(wait, which)
            async with pool.connection() as conn:
                await conn.execute(SILENT_CHANGE, [moved])
            assert hub.watched() == {moved: 1, still: 1, gone: 1}
            ended = await start_review(nursery, pool, hub, stopping)
            await wait_until(lambda: len(woken) == 2)
            # A doubt has it look again, long before its time.
            async with pool.connection() as conn:
                await conn.execute(SILENT_CHANGE, [still])
            hub.doubt()
            await wait_until(lambda: len(woken) == 3)
            stopping.set()
            await ended.wait()
    assert woken[-1] == still


async def test_the_review_asks_for_many_at_once_and_wakes_them_in_groups(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once they would take every connection that requests have."""
    asked: list[int] = []

    async def note(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, int]:
        asked.append(len(ids))
        return await list_seqs(conn, ids)

    monkeypatch.setattr("regsvc.consumer.review.list_seqs", note)
    monkeypatch.setattr(review, "BATCH", 3 * review.GROUP)
    hub, stopping = LiveHub(), trio.Event()
    many = 4 * review.GROUP
    reading = most = read = 0

    async def wait(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal reading, most, read
        with hub.waiting(uuid4()) as waiter:
            waiter.seen = 1
            task_status.started()
            await waiter.wait_change()
            reading += 1
            most = max(most, reading)
            await trio.lowlevel.checkpoint()
            reading -= 1
            read += 1

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(many):
                await nursery.start(wait)
            await start_review(nursery, pool, hub, stopping)
            await wait_until(lambda: read == many)
            stopping.set()
    assert asked == [3 * review.GROUP, review.GROUP]
    assert most <= review.GROUP


async def start_review(nursery: trio.Nursery, pool: Pool, hub: LiveHub, stopping: trio.Event) -> trio.Event:
    """Run the review, and return what is set once it has ended."""
    ended = trio.Event()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        await run_review(pool=pool, hub=hub, stopping=stopping, task_status=task_status)
        ended.set()

    await nursery.start(run)
    return ended


async def test_who_was_not_heard_because_we_were_slow_may_come_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4401 would tell them that their handle opens nothing."""
    monkeypatch.setattr("regsvc.http.api.live_status.FIRST_FRAME", 0.3)
    signed_up = await service.sign_up()
    async with open_socket(socket_url(service, signed_up)) as socket:
        await trio.testing.wait_all_tasks_blocked(0.02)
        time.sleep(0.8)  # noqa: ASYNC251 - the event loop is held up, as by a machine without time for it
        assert await read_end(socket) == ([], 1012)
    async with open_socket(socket_url(service, signed_up)) as socket:
        assert await read_end(socket) == ([], 4401)
