"""Drive psycopg's generators with Trio. They yield what they wait for, and are sent what is ready."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, TypeVar

import trio
from psycopg.waiting import Ready, Wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from psycopg.abc import PQGen, PQGenConn

T = TypeVar("T")


class Lock:
    """A lock for `async with`. An uncontended acquire is no checkpoint: the wait inside the block is one."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = trio.Lock()

    async def __aenter__(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._lock.acquire_nowait()
        except trio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


async def drive(gen: PQGen[T], fd: int, *, resume: bool = False) -> T:
    """Drive a generator to its end over the descriptor `fd`; `resume` one that was interrupted."""
    try:
        # A waiting generator is sent "nothing is ready"; the compiled ones do not accept None.
        wanted = gen.send(Ready.NONE) if resume else next(gen)
        while True:
            if wanted == Wait.R:
                await trio.lowlevel.wait_readable(fd)
                wanted = gen.send(Ready.R)
            else:
                wanted = gen.send(await _wait_ready(fd, wanted))
    except StopIteration as done:
        result: T = done.value
        return result


async def drive_connecting(gen: PQGenConn[T]) -> T:
    """Drive a generator that may change its descriptor. Close what it opened if it does not finish."""
    try:
        fd, wanted = next(gen)
        while True:
            fd, wanted = gen.send(await _wait_ready(fd, wanted))
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        gen.close()


def is_readable(fd: int) -> bool:
    """Return whether a descriptor has data, or its end of file, to read now."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


async def _wait_ready(fd: int, wanted: Wait) -> Ready:
    if wanted == Wait.R:
        await trio.lowlevel.wait_readable(fd)
        return Ready.R
    if wanted == Wait.W:
        await trio.lowlevel.wait_writable(fd)
        return Ready.W
    # While a long statement is sent, the server may need us to read, or both wait for each other. A socket is nearly
    # always writable, and checking first is much cheaper than two tasks.
    await trio.lowlevel.checkpoint()
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT)
    for _, events in poll.poll(0):
        # POLLERR and POLLHUP count as both.
        return Ready((events & ~select.POLLOUT and Ready.R) | (events & ~select.POLLIN and Ready.W))
    ready = 0
    failures: list[Exception] = []

    async def wait_one(wait: Callable[[int], Awaitable[None]], state: Ready, scope: trio.CancelScope) -> None:
        nonlocal ready
        try:
            await wait(fd)
        except (OSError, trio.ClosedResourceError) as error:
            failures.append(error)
        ready |= state
        scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_one, trio.lowlevel.wait_readable, Ready.R, nursery.cancel_scope)
            nursery.start_soon(wait_one, trio.lowlevel.wait_writable, Ready.W, nursery.cancel_scope)
    except BaseExceptionGroup:
        # Only a cancellation can leave here, and callers expect it without a group.
        await trio.lowlevel.checkpoint_if_cancelled()
        raise
    if failures:
        raise failures[0]
    return Ready(ready)
