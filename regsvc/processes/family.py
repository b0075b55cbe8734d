"""The supervisor of several processes: it starts them, hands the sockets down, restarts each alone, and stops all.

It serves nothing itself, so it stays small and has little to fail from. Its processes are started as it was itself,
with one option more; each notices the end of the supervisor by the end of its channel, and then stops as by a signal.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
import trio

from regsvc import supervisor
from regsvc.errors import ConfigurationError
from regsvc.processes.channel import BEAT, Channel
from regsvc.processes.sockets import Bound
from regsvc.processes.states import make_state
from regsvc.supervisor import Backoff, Child, Supervisor

log = structlog.get_logger()

EX_CONFIG = 78
CRASHING = Backoff(cap=30.0)
GRACE = 40.0  # seconds to stop: those of a process for its children and for load balancers, and some to spare
STUCK = 10.0  # seconds without a word from a process that was ready
_TOLD_AGAIN = 5.0  # seconds after which the processes are told again how all are


class ProcessDiedError(Exception):
    """A process ended that was not asked to."""


class MisconfiguredError(ConfigurationError):
    """A process cannot run with this configuration; its own message says why."""


class Family:
    """Runs processes until `stopping` is set.

    Args:
        count: of processes.
        command: that starts one, without the option that makes it one of several.
        bound: the sockets that they listen on; None if they do not listen.
        stopping: set to stop all.
    """

    def __init__(
        self, count: int, *, command: Sequence[str], bound: Bound | None, stopping: trio.Event
    ) -> None:
        self._count = count
        self._command = tuple(command)
        self._bound = bound
        self._stopping = stopping
        self._channels: dict[int, Channel] = {}
        self._running: dict[int, trio.Process] = {}
        self._heard: dict[int, float] = {}  # when a process last said something, by number
        self._changed = trio.Event()
        self._misconfigured = False
        self._supervisor = Supervisor(
            [Child(_name(number), partial(self._live, number), CRASHING) for number in self._numbers],
            stopping=stopping,
            hook=self._note,
            grace=GRACE,
        )

    async def run(self, *, on_ready: Callable[[], None] | None = None) -> None:
        """Run the processes to their end.

        Args:
            on_ready: called when each has started or failed once.

        Raises:
            MisconfiguredError: one of them refused the configuration; the others were stopped.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell)

            async def supervise(*, task_status: trio.TaskStatus[None]) -> None:
                await self._supervisor.run(task_status=task_status)
                nursery.cancel_scope.cancel()

            await nursery.start(supervise)
            if on_ready is not None and not self._stopping.is_set():
                on_ready()
        if self._misconfigured:
            raise MisconfiguredError("a process cannot run with this configuration")

    def kill(self) -> None:
        """End all at once."""
        for process in self._running.values():
            process.kill()

    @property
    def _numbers(self) -> range:
        return range(1, self._count + 1)

    async def _live(
        self, number: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Run one process for one life."""
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        process = await self._start(number, theirs)
        self._channels[number], self._running[number] = channel, process
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, number, channel, partial(task_status.started, process.pid))
                nursery.start_soon(self._stop, channel)
                nursery.start_soon(self._watch, number, process)
                code = await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            del self._channels[number], self._running[number]
            await channel.aclose()
            with trio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if code == EX_CONFIG:
            self._misconfigured = True
            self._stopping.set()
        if code != 0 or not self._stopping.is_set():
            raise ProcessDiedError(_describe(code))

    async def _start(self, number: int, theirs: socket.socket) -> trio.Process:
        with theirs:
            if self._bound is None:
                return await self._open(number, theirs, [])
            with self._bound.handing() as descriptors:
                return await self._open(number, theirs, descriptors)

    async def _open(
        self, number: int, theirs: socket.socket, descriptors: Sequence[tuple[int, bool]]
    ) -> trio.Process:
        handed = ",".join(f"{descriptor}{'s' if shared else ''}" for descriptor, shared in descriptors)
        return await trio.lowlevel.open_process(
            [*self._command, f"--member={number}:{theirs.fileno()}:{handed}"],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno(), *(descriptor for descriptor, _ in descriptors)],
        )

    async def _listen(self, number: int, channel: Channel, ready: Any) -> None:
        async for message in channel.messages():
            self._heard[number] = trio.current_time()
            if "ready" in message:
                ready()
            elif "metrics" in message:
                asker = self._channels.get(message["for"])
                if asker is not None:
                    await asker.send({**message, "process": number})
            elif "ask" in message:
                await self._gather(number, channel, message["ask"])

    async def _gather(self, number: int, channel: Channel, ask: int) -> None:
        """Ask all others for their metrics, which are handed on as they come, and say how many are asked."""
        others = {other: each for other, each in self._channels.items() if other != number}
        await channel.send({"asked": ask, "of": len(others)})
        for each in others.values():
            await each.send({"collect": ask, "for": number})

    async def _watch(self, number: int, process: trio.Process) -> None:
        """End a process that was ready and has not been heard from for too long: its event loop is stuck."""
        self._heard.pop(number, None)
        while True:
            await trio.sleep(BEAT)
            heard = self._heard.get(number)
            if heard is not None and trio.current_time() - heard > STUCK:
                log.error("process stuck: ended", process=number, pid=process.pid, seconds=STUCK)
                process.kill()
                return

    async def _stop(self, channel: Channel) -> None:
        await self._stopping.wait()
        await channel.send({"stop": True})

    async def _tell(self) -> None:
        """Report to each process how all are, whenever that changes."""
        while True:
            with trio.move_on_after(_TOLD_AGAIN):
                await self._changed.wait()
            self._changed = trio.Event()
            statistics = {child.name: child for child in self._supervisor.statistics().children}
            states = [
                make_state(
                    number,
                    None if (process := self._running.get(number)) is None else process.pid,
                    statistics[_name(number)],
                ).to_message()
                for number in self._numbers
            ]
            for channel in list(self._channels.values()):
                await channel.send({"processes": states})

    def _note(self, event: supervisor.Event) -> None:
        self._changed.set()
        match event:
            case supervisor.ChildStarted(name=name, lives=lives, value=pid):
                log.info("process started", process=_number(name), pid=pid, lives=lives)
            case supervisor.ChildFailed(name=name, text=text, delay=delay, failures_in_a_row=failures):
                log.warning(
                    "process died",
                    process=_number(name),
                    error=text,
                    in_a_row=failures,
                    next_try_in=None if delay is None else round(delay, 1),
                )
            case supervisor.ChildCancelled(name=name):
                log.warning("process killed: the grace is over", process=_number(name))
            case supervisor.StopRequested(grace=grace):
                log.info("draining", grace=grace)
            case _:
                pass


def start_command() -> list[str]:
    """Return the command that started this process."""
    return [sys.executable, *sys.orig_argv[1:]]


def _name(number: int) -> str:
    return f"process {number}"


def _number(name: str) -> int:
    return int(name.rpartition(" ")[2])


def _describe(code: int) -> str:
    """Return how a process ended, in words."""
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
