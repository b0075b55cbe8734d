"""The asyncio loop under the AMQP library."""

from __future__ import annotations

import trio
from trio_asyncio import aio_as_trio, open_loop  # type: ignore[import-untyped]  # ships no types

from regsvc.rabbitmq.bursts import run_in_bursts


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
        run_in_bursts(loop)
        loop.set_exception_handler(lambda _loop, context: failed.append(context["exception"]))
        loop.call_later(0.01, done.set)
        await aio_as_trio(loop.shutdown_asyncgens)()  # the loop runs
        for number in range(40):
            loop.call_soon(lambda number: ran.append((number, turns.count)), number)
            loop.call_soon(lambda: None)
        loop.call_soon(lambda: 1 / 0)
        with trio.fail_after(5):
            await done.wait()
    trio.lowlevel.remove_instrument(turns)
    assert [number for number, _ in ran] == list(range(40))
    assert ran[-1][1] - ran[0][1] <= 2  # 81 callbacks, some 64 a turn
    assert [type(error) for error in failed] == [ZeroDivisionError]
