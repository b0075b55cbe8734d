"""`wait_notifications()`: nothing is lost, and silence is not mistaken for peace."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio
import trio.testing

from regsvc.postgres.connection import Connection
from regsvc.postgres.listening import hear, wait_notifications
from tests.postgres.proxies import open_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def listener(database: str) -> AsyncIterator[Connection]:
    async with await Connection.connect(database) as listener:
        await listener.execute("LISTEN news")
        yield listener


@pytest.fixture
async def sender(database: str) -> AsyncIterator[Connection]:
    async with await Connection.connect(database) as sender:
        yield sender


async def test_notifications_arrive_in_order(listener: Connection, sender: Connection) -> None:
    payloads: list[str] = []

    async def send() -> None:
        for number in range(100):
            await sender.execute("SELECT pg_notify('news', %s)", [str(number)])

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(payloads) < 100:
                payloads += [notification.payload for notification in await wait_notifications(listener)]
    assert payloads == [str(number) for number in range(100)]


async def test_what_arrived_with_another_statement_is_not_lost(
    listener: Connection, sender: Connection
) -> None:
    await sender.execute("NOTIFY news, 'first'")
    await listener.execute("SELECT 1")
    (notification,) = await wait_notifications(listener)
    assert (notification.channel, notification.payload) == ("news", "first")


async def test_a_cancelled_wait_loses_nothing(listener: Connection, sender: Connection) -> None:
    payloads: list[str] = []

    async def send() -> None:
        for number in range(300):
            await sender.execute("SELECT pg_notify('news', %s)", [str(number)])

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while len(payloads) < 300:
                with trio.move_on_after(0.0005):
                    payloads += [notification.payload for notification in await wait_notifications(listener)]
    assert payloads == [str(number) for number in range(300)]


async def test_a_terminated_backend_is_noticed_at_once(listener: Connection, sender: Connection) -> None:
    with trio.fail_after(5), pytest.RaisesGroup(psycopg.OperationalError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_notifications, listener)
            await trio.testing.wait_all_tasks_blocked(0.01)
            await sender.execute("SELECT pg_terminate_backend(%s)", [listener.info.backend_pid])
    assert listener.closed


async def test_a_black_hole_is_noticed_by_the_heartbeat(database: str) -> None:
    async with open_proxy(database) as proxy, await Connection.connect(proxy.conninfo()) as listener:
        await listener.execute("LISTEN news")
        proxy.fall_silent()
        with trio.fail_after(5), pytest.raises(psycopg.OperationalError):
            await wait_notifications(listener, heartbeat=0.1, patience=0.2)
        assert listener.closed


async def test_a_quiet_server_passes_the_heartbeat(listener: Connection, sender: Connection) -> None:
    """Silence goes on over many heartbeats, and a notification still comes through."""
    with trio.move_on_after(0.2) as scope:
        await wait_notifications(listener, heartbeat=0.01, patience=5)
    assert scope.cancelled_caught
    await sender.execute("NOTIFY news, 'late'")
    with trio.fail_after(5):
        (notification,) = await wait_notifications(listener, heartbeat=0.01)
    assert notification.payload == "late"


async def test_payloads_are_heard_in_order_from_the_first_on(
    listener: Connection, sender: Connection
) -> None:
    heard: list[bytes] = []
    done = trio.Event()

    def take(payload: bytes) -> None:
        heard.append(payload)
        if payload == b"99":
            done.set()

    await sender.execute("SELECT pg_notify('news', '0')")
    await listener.execute("SELECT 1")  # which it arrives with
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(hear, listener, take))
            for number in range(1, 100):
                await sender.execute("SELECT pg_notify('news', %s)", [str(number)])
            await done.wait()
            nursery.cancel_scope.cancel()
    assert heard == [b"%d" % number for number in range(100)]


async def test_what_is_sent_in_a_pause_is_heard_together(listener: Connection, sender: Connection) -> None:
    heard: list[bytes] = []
    looks = 0
    looked, last = trio.Event(), trio.Event()

    def take(payload: bytes) -> None:
        heard.append(payload)
        if payload == b"last":
            last.set()

    def pause() -> float:
        nonlocal looks
        looks += 1
        looked.set()
        return 1.0

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(hear, listener, take, pause=pause))
            await sender.execute("NOTIFY news, 'first'")
            await looked.wait()
            for payload in ("a", "b", "c", "last"):
                await sender.execute("SELECT pg_notify('news', %s)", [payload])
            await last.wait()
            nursery.cancel_scope.cancel()
    assert heard == [b"first", b"a", b"b", b"c", b"last"]
    assert looks <= 2


async def test_a_server_that_falls_silent_is_noticed_while_hearing(database: str) -> None:
    async with open_proxy(database) as proxy, await Connection.connect(proxy.conninfo()) as listener:
        await listener.execute("LISTEN news")
        proxy.fall_silent()
        with trio.fail_after(5), pytest.raises(psycopg.OperationalError, match="did not answer within"):
            await hear(listener, lambda _: None, heartbeat=0.1, patience=0.1)
