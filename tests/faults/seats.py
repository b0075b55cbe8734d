"""A process of the program that is started again whenever it ends, as a process manager does it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import trio

from tests.faults.inbox import SeatMails
from tests.programs import clean_environ
from tests.proxies import Proxy
from tests.services import PLAIN

_SHORTEST = 0.5  # seconds from one start to the next, at least
# Seconds in which a process may not listen to signals yet; they end it as any other, with nothing in hand.
_START_UP = 5.0
PATIENCE = 60.0  # seconds after which a process that should be ready counts as broken


@dataclass(eq=False)
class Seat:
    """One process after the other, each with the same role, settings and network.

    Args:
        name: of the seat.
        role: that `regsvc serve` plays.
        environ: its settings.
        wires: what lies between it and `postgres`, `broker` and `mail`.
        mails: what its mail server was given.
        url: where it listens.
        output: the file that all its lives log into.
        on_death: is told which life ended, and whether it was killed.
    """

    name: str
    role: str
    environ: Mapping[str, str]
    wires: Mapping[str, Proxy]
    mails: SeatMails
    url: str
    output: Path
    on_death: Callable[[Seat, int], None]
    life: int = 0
    surprises: list[str] = field(default_factory=list)
    slowest_stop: float = 0.0
    _process: trio.Process | None = None
    _fine: set[int] = field(default_factory=set)
    _asked_at: float | None = None
    _may_run: trio.Event = field(default_factory=trio.Event)
    _began: trio.Event = field(default_factory=trio.Event)
    _ended: trio.Event = field(default_factory=trio.Event)

    @property
    def alive(self) -> bool:
        """Whether there is a process now."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int | None:
        """The id of the present process, if there is one."""
        return self._process.pid if self._process is not None and self.alive else None

    def kill(self) -> None:
        """End it on the spot; it is started again."""
        if self._process is not None and self.alive:
            self._fine.add(-signal.SIGKILL)
            self._process.kill()

    def terminate(self) -> None:
        """Ask it to end; it is started again."""
        if self._process is not None and self.alive and self._asked_at is None:
            self._fine.add(0)
            self._asked_at = trio.current_time()
            self._process.terminate()

    def hold(self) -> None:
        """Do not start it again until `release`."""
        if self._may_run.is_set():
            self._may_run = trio.Event()

    def release(self) -> None:
        """Start it again."""
        self._may_run.set()

    async def wait_alive(self) -> None:
        """Wait until there is a process, ready or not."""
        while not self.alive:
            await self._began.wait()

    async def wait_ended(self) -> None:
        """Wait until the present process, if any, has ended."""
        if self.alive:
            await self._ended.wait()

    async def wait_ready(self) -> None:
        """Wait until a process of this seat says that it is ready."""
        async with httpx.AsyncClient(base_url=self.url, timeout=5, verify=PLAIN) as client:
            with trio.fail_after(PATIENCE):
                while True:
                    try:
                        if (await client.get("/readyz")).status_code == 200:
                            return
                    except httpx.TransportError:
                        pass
                    await trio.sleep(0.05)

    def tracebacks(self) -> int:
        """Return how often the log has a traceback: what is expected to happen needs none."""
        return self.output.read_text(errors="replace").count("Traceback (most recent")

    async def keep(self) -> None:
        """Keep a process running until cancelled; what is left of it then is killed."""
        self.release()
        while True:
            await self._may_run.wait()
            began = trio.current_time()
            await self._live()
            await trio.sleep_until(began + _SHORTEST)

    async def _live(self) -> None:
        began = trio.current_time()
        self.life += 1
        self.mails.life = self.life
        self._fine, self._asked_at, self._ended = set(), None, trio.Event()
        with self.output.open("ab") as output:
            self._process = process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "regsvc", "serve", "--role", self.role],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=clean_environ(self.environ),
                cwd=self.output.parent,
                start_new_session=True,
            )
        self._began.set()
        try:
            code = await process.wait()
        finally:
            self._began = trio.Event()
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()
        if self._asked_at is not None:
            self.slowest_stop = max(self.slowest_stop, trio.current_time() - self._asked_at)
            if self._asked_at - began < _START_UP:
                self._fine.add(-signal.SIGTERM)
        if code not in self._fine:
            self.surprises.append(f"{self.name}, life {self.life}: ended with {code}")
        # What it wrote last is still on its way to the mail server.
        with trio.move_on_after(5):
            await self.wires["mail"].wait_connected(0)
        self._ended.set()
        self.on_death(self, self.life)
