"""One of several processes: what its supervisor handed to it, and what it knows of the others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import structlog
import trio

from regsvc.errors import ConfigurationError
from regsvc.processes.channel import BEAT, Channel
from regsvc.processes.gathering import Families, dump_metrics, note_states
from regsvc.processes.sockets import Handed
from regsvc.processes.states import ProcessState

log = structlog.get_logger()

_PATIENCE = 1.0  # seconds that the others have to tell their metrics


@dataclass
class _Asked:
    """Metrics that were asked for, as they come."""

    missing: int | None = None
    found: dict[int, Families] = field(default_factory=dict)
    changed: trio.Event = field(default_factory=trio.Event)


class Member:
    """This process among its siblings.

    Args:
        number: its own, from 1.
        channel: to the supervisor.
        handed: the sockets that it listens on; None if it does not listen.
    """

    def __init__(self, number: int, channel: Channel, handed: Handed | None) -> None:
        self.number = number
        self.handed = handed
        self._channel = channel
        self._states: list[ProcessState] = []
        self._told_at = 0.0
        self._asks = count()
        self._asked: dict[int, _Asked] = {}

    async def run(
        self, stopping: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Heed the supervisor until it is gone. The end of the supervisor is the end of its processes."""
        task_status.started()
        async for message in self._channel.messages():
            if "stop" in message:
                stopping.set()
            elif "processes" in message:
                states = [ProcessState(**state) for state in message["processes"]]
                note_states(self._states, states)
                self._states = states
                self._told_at = trio.current_time()
            elif "collect" in message:
                families = dump_metrics()
                await self._channel.send(
                    {"metrics": families, "ask": message["collect"], "for": message["for"]}
                )
            else:
                self._take_answer(message)
        if not stopping.is_set():
            log.warning("stopping", reason="the supervisor of the processes is gone")
            stopping.set()

    async def tell_ready(self) -> None:
        """Report to the supervisor that this process is at work."""
        await self._channel.send({"ready": True})

    async def beat(self) -> None:
        """Give the supervisor a sign of life every few seconds, until cancelled. A stuck event loop gives none."""
        while True:
            await trio.sleep(BEAT)
            await self._channel.send({"beat": True})

    def states(self) -> list[ProcessState]:
        """Return how all processes are, as the supervisor told last."""
        passed = trio.current_time() - self._told_at
        return [
            state if state.next_try is None else replace(state, next_try=max(0.0, state.next_try - passed))
            for state in self._states
        ]

    async def gather_metrics(self) -> dict[int, Families]:
        """Return the metrics of the other processes, by number. One that does not answer in time is left out."""
        ask = next(self._asks)
        asked = self._asked[ask] = _Asked()
        try:
            with trio.move_on_after(_PATIENCE):
                await self._channel.send({"ask": ask})
                while asked.missing is None or len(asked.found) < asked.missing:
                    await asked.changed.wait()
                    asked.changed = trio.Event()
        finally:
            del self._asked[ask]
        return asked.found

    def _take_answer(self, message: dict[str, Any]) -> None:
        asked = self._asked.get(message.get("asked", message.get("ask", -1)))
        if asked is None:
            return
        if "of" in message:
            asked.missing = message["of"]
        else:
            asked.found[message["process"]] = message["metrics"]
        asked.changed.set()


def parse_member(text: str) -> tuple[int, int, list[tuple[int, bool]]]:
    """Return number, channel and sockets from the option that the supervisor starts a process with.

    Raises:
        ConfigurationError: the supervisor did not write this.
    """
    try:
        number, channel, handed = text.split(":")
        return int(number), int(channel), list(_parse_handed(handed))
    except ValueError:
        raise ConfigurationError("--member is for the supervisor of several processes") from None


def open_member(text: str) -> Member:
    """Return this process among its siblings, from the option that the supervisor started it with.

    Raises:
        ConfigurationError: the supervisor did not start this.
    """
    number, channel, handed = parse_member(text)
    try:
        return Member(number, Channel(socket.socket(fileno=channel)), Handed(handed) if handed else None)
    except OSError:
        raise ConfigurationError("--member is for the supervisor of several processes") from None


def _parse_handed(text: str) -> Iterator[tuple[int, bool]]:
    for word in filter(None, text.split(",")):
        yield int(word.removesuffix("s")), word.endswith("s")
