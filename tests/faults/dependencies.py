"""Faults of PostgreSQL and RabbitMQ themselves, and of the network in front of them."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio

from tests.amqp import open_channel
from tests.faults.stage import QUEUE, Stage

Action = Callable[[Stage], Awaitable[None]]


def restart_broker(*, down: float) -> Action:
    """RabbitMQ is shut down in order and started again after so many seconds."""

    async def run(stage: Stage) -> None:
        await stage.ctl("stop")
        await trio.sleep(down)
        await stage.ctl("start")

    return run


def kill_broker(*, down: float) -> Action:
    """RabbitMQ is killed and started again after so many seconds."""

    async def run(stage: Stage) -> None:
        await stage.ctl("flush")
        await stage.ctl("kill")
        await trio.sleep(down)
        await stage.ctl("start")

    return run


async def delete_queue(stage: Stage) -> None:
    """The queue is deleted under its consumers."""
    async with open_channel(stage.broker.url()) as channel:
        await channel.delete(QUEUE)


async def _fill_queue(stage: Stage) -> None:
    """Have messages wait in the queue: the workers go."""
    for seat in stage.of("worker"):
        seat.hold()
        seat.terminate()
    for seat in stage.of("worker"):
        await seat.wait_ended()
    with trio.move_on_after(10):
        while (await stage.depths())[0] < 5:  # noqa: ASYNC110 - a queue has no event
            await trio.sleep(0.2)


async def _workers_return(stage: Stage) -> None:
    for seat in stage.of("worker"):
        seat.release()
    for seat in stage.of("worker"):
        await seat.wait_ready()


async def delete_full_queue(stage: Stage) -> None:
    """The queue is deleted with messages in it."""
    await _fill_queue(stage)
    await delete_queue(stage)
    await _workers_return(stage)


async def purge_and_reconnect(stage: Stage) -> None:
    """The queue is purged with messages in it, and everybody connects anew."""
    await _fill_queue(stage)
    async with open_channel(stage.broker.url()) as channel:
        await channel.purge(QUEUE)
    await stage.ctl("close_connections")
    await _workers_return(stage)


async def purge(stage: Stage) -> None:
    """The queue is purged while the relays that filled it stay connected: the next to connect finds it empty."""
    await _fill_queue(stage)
    async with open_channel(stage.broker.url()) as channel:
        await channel.purge(QUEUE)
    await _workers_return(stage)


def raise_alarm(*, seconds: float) -> Action:
    """RabbitMQ runs short of memory and blocks who publishes."""

    async def run(stage: Stage) -> None:
        await stage.ctl("raise_memory_alarm")
        await trio.sleep(seconds)
        await stage.ctl("clear_memory_alarm")

    return run


def close_connections(*, seconds: float) -> Action:
    """Every connection to RabbitMQ is closed every two seconds."""

    async def run(stage: Stage) -> None:
        until = trio.current_time() + seconds
        while trio.current_time() < until:
            await stage.ctl("close_connections")
            await trio.sleep(2)

    return run


def be_away(*, seconds: float) -> Action:
    """RabbitMQ is stopped and the mail server refuses connections, for some seconds."""

    async def run(stage: Stage) -> None:
        began = trio.current_time()
        for wire in stage.wires("mail"):
            await wire.refuse()
            wire.reset()
        await stage.note_lost_answers(since=began)
        await stage.ctl("flush")
        await stage.ctl("stop")
        await trio.sleep(seconds)
        for wire in stage.wires("mail"):
            await wire.listen()
        await stage.ctl("start")

    return run


def reset_wires(dependency: str) -> Action:
    """Every connection to a dependency is reset."""

    async def run(stage: Stage) -> None:
        began = trio.current_time()
        for wire in stage.wires(dependency):
            wire.reset()
        if dependency == "mail":
            await stage.note_lost_answers(since=began)

    return run


def swallow(dependency: str, *, seconds: float) -> Action:
    """The network swallows everything that goes to a dependency, and says nothing."""

    async def run(stage: Stage) -> None:
        for wire in stage.wires(dependency):
            wire.black_hole = True
        await trio.sleep(seconds)
        for wire in stage.wires(dependency):
            wire.black_hole = False
            wire.reset()

    return run


def restart_postgres(number: signal.Signals, *, down: float = 1.0) -> Action:
    """PostgreSQL ends without a good-bye and is started again after so many seconds."""

    async def run(stage: Stage) -> None:
        await stage.postgres.end(number)
        await trio.sleep(down)
        await stage.postgres.start()

    return run


async def end_backends(stage: Stage) -> None:
    """Every session of PostgreSQL is terminated."""
    await stage.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    await trio.sleep(1)


def make_read_only(*, seconds: float) -> Action:
    """PostgreSQL takes no writes for some seconds, as in a failover."""

    async def run(stage: Stage) -> None:
        await stage.query("ALTER SYSTEM SET default_transaction_read_only = on")
        await stage.query("SELECT pg_reload_conf()")
        await trio.sleep(seconds)
        await stage.query("ALTER SYSTEM RESET default_transaction_read_only")
        await stage.query("SELECT pg_reload_conf()")

    return run


async def restart_in_turn(stage: Stage) -> None:
    """Every process is asked to end, one after the other, and started again."""
    for seat in stage.seats:
        seat.terminate()
        await seat.wait_ended()
        await seat.wait_ready()
