"""Processor time by the scheduler's nanoseconds, and a load of one thread over kept connections.

What a program computes does not depend on what else the machine does, as what it takes does. Of several programs in
one run, each works in short windows in turn, in another order every round, so that all meet the same moments.
"""

from __future__ import annotations

import os
import random
import selectors
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.suite.leftovers import descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def thread_seconds(pid: int) -> dict[int, float]:
    """Return the processor seconds of each thread of a process."""
    found = {}
    for entry in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found[int(entry.name)] = int((entry / "schedstat").read_text().split()[0]) / 1e9
    return found


def loop_seconds(pid: int) -> float:
    """Return the processor seconds of a process's main thread."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def named_seconds(name: str) -> float:
    """Return the processor seconds of all processes of this bench whose program has that name."""
    total = 0.0
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().startswith(name):
                total += sum(thread_seconds(pid).values())
    return total


@dataclass
class Load:
    """Some connections to one server, each with a request under way all the time."""

    host: str
    port: int
    connections: int
    _sockets: list[socket.socket] = field(default_factory=list)

    def run(self, make: Callable[[], bytes], *, seconds: float, want: int) -> list[float]:
        """Send requests for a while and return the seconds that each took.

        Args:
            make: returns the next request, whole.
            seconds: the length of the window; requests that are under way then are awaited.
            want: the status of every answer; of another the bench ends.
        """
        self._sockets = [sock for sock in self._sockets if not _is_closed(sock)]
        while len(self._sockets) < self.connections:
            self._sockets.append(socket.create_connection((self.host, self.port)))
        taken: list[float] = []
        end = time.perf_counter() + seconds
        with selectors.DefaultSelector() as selector:
            for sock in self._sockets:
                selector.register(sock, selectors.EVENT_READ, [time.perf_counter(), b""])
                sock.sendall(make())
            while selector.get_map():
                for key, _ in selector.select():
                    sock = key.fileobj
                    key.data[1] += (got := sock.recv(262144))
                    if got and not _is_whole(key.data[1]):
                        continue
                    if key.data[1].split(b" ", 2)[1:2] != [b"%d" % want]:
                        raise SystemExit(f"{self.port} answered {key.data[1][:600]!r}")
                    now = time.perf_counter()
                    taken.append(now - key.data[0])
                    if now >= end:
                        selector.unregister(sock)
                    else:
                        key.data[:] = now, b""
                        sock.sendall(make())
        return taken


def _is_closed(sock: socket.socket) -> bool:
    """Return whether the server has closed a connection that was idle."""
    try:
        return not sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _is_whole(octets: bytes) -> bool:
    head, found, body = octets.partition(b"\r\n\r\n")
    if not found:
        return False
    _, found, tail = head.lower().partition(b"content-length:")
    return len(body) >= int(tail.partition(b"\r\n")[0]) if found else body.endswith(b"0\r\n\r\n")


@dataclass(frozen=True)
class Window:
    """What one window of one measurement gave."""

    requests: int
    seconds: float  # of the processor, or whatever `read` counts
    taken: list[float]

    @property
    def each(self) -> float:
        """Return the seconds of a request."""
        return self.seconds / self.requests


@dataclass(frozen=True)
class Measurement:
    """One kind of request to one program."""

    load: Load
    make: Callable[[], bytes]
    read: Callable[[], float]
    want: int = 200
    settle: float = 0.0  # seconds for what goes on after the answers


def measure(asked: Mapping[str, Measurement], *, rounds: int, seconds: float) -> dict[str, list[Window]]:
    """Measure everything in turn, in another order every round, after one round that does not count."""
    found: dict[str, list[Window]] = {name: [] for name in asked}
    for number in range(rounds + 1):
        for name in random.sample(list(asked), len(asked)):
            it = asked[name]
            before = it.read()
            taken = it.load.run(it.make, seconds=seconds, want=it.want)
            time.sleep(it.settle)
            window = Window(len(taken), it.read() - before, taken)
            if number:
                found[name].append(window)
    return found


def microseconds(windows: Sequence[Window]) -> float:
    """Return the median of the microseconds of a request."""
    return median(window.each for window in windows) * 1e6


def ratio(windows: Sequence[Window], others: Sequence[Window]) -> float:
    """Return the median over the rounds of what a request costs, by what it costs another program."""
    return median(one.each / other.each for one, other in zip(windows, others, strict=True))
