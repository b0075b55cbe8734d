"""An asyncio loop inside Trio's, for the one library that needs it.

asyncio asks its selector to wait for input and timers. Ours never waits: it stops the loop, and Trio waits in its place
for the selector's own file descriptor. Everything therefore runs in one thread, callbacks of asyncio may call
synchronous functions of Trio and the other way round, and no private name of asyncio is used.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import outcome
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

_BURST = 0.001  # seconds for which callbacks run before other tasks of Trio have their turn
_END_SECONDS = 2.0  # for tasks that are cancelled when the loop is closed

T = TypeVar("T")


@asynccontextmanager
async def open_loop() -> AsyncIterator[Loop]:
    """Yield a loop that runs as long as the block lasts (Trio flavour). Tasks left over are cancelled."""
    loop, driving = (
        Loop(),
        trio.CancelScope(shield=True),
    )  # functions that were cancelled clean up in the loop
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loop.drive, driving)
            try:
                yield loop
            finally:
                with trio.CancelScope(shield=True):
                    await loop.run(_end_tasks)
                driving.cancel()
    finally:
        loop.close()


class Loop(asyncio.SelectorEventLoop):
    """An asyncio loop that a task of Trio drives. Use it in that thread only."""

    def __init__(self) -> None:
        self._waits = _Waits(self.stop)
        self._asleep: trio.CancelScope | None = None
        super().__init__(self._waits)

    async def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run an asyncio function and return its result (Trio flavour).

        If this is cancelled, so is the function, and its end is waited for.

        Raises:
            BaseException: what the function raised; asyncio's CancelledError if something else cancelled it.
        """
        waiting, running = trio.lowlevel.current_task(), self.create_task(function(*args))
        cancelled: Callable[[], None] | None = None

        def wake(_done: object) -> None:
            trio.lowlevel.reschedule(waiting)

        def cancel(raise_cancel: Callable[[], None]) -> trio.lowlevel.Abort:
            nonlocal cancelled
            cancelled = raise_cancel
            running.cancel()
            return trio.lowlevel.Abort.FAILED

        running.add_done_callback(wake)
        await trio.lowlevel.wait_task_rescheduled(cancel)
        result = outcome.capture(running.result)
        if cancelled is not None and running.cancelled():
            cancelled()
        return result.unwrap()

    async def drive(self, scope: trio.CancelScope) -> None:
        """Run callbacks whenever there are any, until a scope is cancelled (Trio flavour)."""
        with scope:
            while True:
                self._waits.begin()
                self.run_forever()  # until it would wait, or for a burst
                with trio.CancelScope() as self._asleep:
                    if self._waits.patience is not None:
                        self._asleep.deadline = trio.current_time() + self._waits.patience
                    await trio.lowlevel.wait_readable(self._waits.fileno())
                self._asleep = None

    def call_soon(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        """Schedule a callback for the next burst."""
        self._wake()
        return super().call_soon(*args, **options)

    def call_at(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        """Schedule a callback for a time of this loop."""
        self._wake()
        return super().call_at(*args, **options)

    def _wake(self) -> None:
        """Begin the next burst now."""
        self._waits.patience = 0
        if self._asleep is not None:
            self._asleep.cancel()


class _Waits(selectors.DefaultSelector):
    """Stops the loop where it would wait, and remembers for how long it would have."""

    patience: float | None = 0  # seconds; None: until there is input

    def __init__(self, stop: Callable[[], None]) -> None:
        super().__init__()
        self._stop = stop
        self._end = 0.0

    def begin(self) -> None:
        """Begin a burst."""
        self._end = time.monotonic() + _BURST

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now."""
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(0)
        if not ready and timeout != 0:
            self.patience = timeout
            self._stop()
        elif time.monotonic() > self._end:
            self.patience = 0
            self._stop()
        return ready


async def _end_tasks() -> None:
    """Cancel the tasks that are left, and wait for their end (asyncio flavour)."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_END_SECONDS)
    await asyncio.get_running_loop().shutdown_asyncgens()
