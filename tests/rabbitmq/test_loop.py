"""The asyncio loop under the AMQP library."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest
import trio

from regsvc.rabbitmq.loop import open_loop


class Turns(trio.abc.Instrument):
    """Counts the turns of Trio's loop."""

    count = 0

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature
        """Count one."""
        self.count += 1


async def test_callbacks_that_wait_together_run_in_one_turn_and_in_order() -> None:
    turns, done = Turns(), trio.Event()
    ran: list[tuple[int, int]] = []
    failed: list[BaseException] = []
    trio.lowlevel.add_instrument(turns)
    async with open_loop() as loop:
        loop.set_exception_handler(lambda _loop, context: failed.append(context["exception"]))
        loop.call_later(0.01, done.set)
        await loop.run(asyncio.sleep, 0)  # the loop runs
        for number in range(40):
            loop.call_soon(lambda number: ran.append((number, turns.count)), number)
            loop.call_soon(lambda: None)
        loop.call_soon(lambda: 1 / 0)
        with trio.fail_after(5):
            await done.wait()
    trio.lowlevel.remove_instrument(turns)
    assert [number for number, _ in ran] == list(range(40))
    assert ran[-1][1] - ran[0][1] <= 2
    assert [type(error) for error in failed] == [ZeroDivisionError]


async def test_a_function_returns_raises_and_is_cancelled_as_if_trio_ran_it() -> None:
    async def divide(left: int, right: int) -> float:
        await asyncio.sleep(0)
        return left / right

    ended: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            ended.append("cleaned up")

    async def give_up() -> None:
        raise asyncio.CancelledError

    async with open_loop() as loop:
        assert await loop.run(divide, 6, 3) == 2
        with pytest.raises(ZeroDivisionError):
            await loop.run(divide, 6, 0)
        with pytest.raises(asyncio.CancelledError):  # its own, which is no cancellation of ours
            await loop.run(give_up)
        with trio.move_on_after(0.05) as scope:
            await loop.run(linger)
        assert scope.cancelled_caught
        assert ended == ["cleaned up"]
        with trio.CancelScope() as late:
            late.cancel()
            assert await loop.run(finish_all_the_same) == "finished"


async def finish_all_the_same() -> str:
    """Return in spite of a cancellation."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        return "finished"
    return "never cancelled"


async def test_input_timers_threads_and_other_tasks_of_trio_wake_it() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # noqa: FBT003 - the name of the standard library
    async with open_loop() as loop:

        async def send_later() -> None:
            await trio.sleep(0.02)
            theirs.send(b"x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_later)
            with trio.fail_after(5):
                assert await loop.run(loop.sock_recv, ours, 1) == b"x"
        with trio.fail_after(5):
            await loop.run(asyncio.sleep, 0.02)
        called = trio.Event()
        threading.Thread(target=loop.call_soon_threadsafe, args=(called.set,)).start()
        with trio.fail_after(5):
            await called.wait()
        called = trio.Event()
        await trio.sleep(0.02)  # it waits for input alone
        loop.call_soon(called.set)
        with trio.fail_after(5):
            await called.wait()
    ours.close()
    theirs.close()


async def test_a_loop_without_work_sleeps_and_a_busy_one_lets_others_run() -> None:
    turns = Turns()
    async with open_loop() as loop:
        await loop.run(asyncio.sleep, 0)
        trio.lowlevel.add_instrument(turns)
        await trio.sleep(0.2)
        trio.lowlevel.remove_instrument(turns)
        assert turns.count <= 5

        async def spin() -> None:
            while True:  # noqa: ASYNC110 - it is to be busy
                await asyncio.sleep(0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.run, spin)
            with trio.fail_after(5):
                for _ in range(20):
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()


async def test_tasks_that_are_left_end_with_the_loop() -> None:
    ended = []

    async def linger() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cleaned up")

    async with open_loop() as loop:
        left = loop.create_task(linger())
        await loop.run(asyncio.sleep, 0)
    assert ended == ["cleaned up"]
    assert left.cancelled()


async def test_asyncio_keeps_its_compiled_futures_and_tasks() -> None:
    async with open_loop() as loop:
        assert type(loop.create_future()).__module__ == "_asyncio"
        assert asyncio.Task.__module__ == "_asyncio"
