"""A TCP proxy that makes a network bad: between the program and one of its dependencies, under a test's control.

async with open_proxy(("127.0.0.1", 5672)) as proxy:
    ...                       # the program dials proxy.port
    proxy.black_hole = True   # from now on nothing arrives anywhere, and nobody is told
    proxy.trap(b"COMMIT", Way.UP, program.kill, forward=False)  # ends it before this byte string arrives
"""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import trio

from tests.suite.ports import take_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

_LINGER_ZERO = struct.pack("ii", 1, 0)
_ENDED = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Way(Enum):
    """Which way bytes go."""

    UP = "from the program to the dependency"
    DOWN = "from the dependency to the program"


@dataclass
class Trap:
    """Waits for a byte string on the wire. See `Proxy.trap`."""

    pattern: bytes
    way: Way
    action: Callable[[], object]
    forward: bool
    skip: int
    sprung: trio.Event = field(default_factory=trio.Event)


@dataclass(eq=False)
class _Connection:
    """One connection of the program and the one to the dependency that belongs to it."""

    client: trio.SocketStream
    server: trio.SocketStream | None = None
    gone: trio.Event = field(default_factory=trio.Event)
    tails: dict[Way, bytes] = field(default_factory=lambda: dict.fromkeys(Way, b""))

    @property
    def streams(self) -> tuple[trio.SocketStream, ...]:
        return (self.client,) if self.server is None else (self.client, self.server)

    def reset(self) -> None:
        self.gone.set()
        for stream in self.streams:
            with suppress(OSError):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
            stream.socket.close()

    def finish(self) -> None:
        for stream in self.streams:
            with suppress(OSError):
                stream.socket.shutdown(socket.SHUT_WR)


class Proxy:
    """A listener on 127.0.0.1:`port` that passes bytes on to `upstream`, for better or worse.

    Attributes:
        port: the same for the whole life of the proxy, refusing and listening again included.
        latency: seconds that each piece waits before it is passed on.
        black_hole: while set, whatever comes is swallowed, in connections old and new, and no end is passed on.
            Connections that lost bytes this way never recover: clear it, then `reset()`.
        accepted: how many connections there have been.
    """

    def __init__(self, nursery: trio.Nursery, upstream: tuple[str, int] | Path) -> None:
        self.port = take_port()
        self.latency = 0.0
        self.black_hole = False
        self.accepted = 0
        self._nursery = nursery
        self._upstream = upstream
        self._connections: set[_Connection] = set()
        self._changed = trio.Event()
        self._flowing = trio.Event()
        self._flowing.set()
        self._listening: trio.CancelScope | None = None
        self._closed = trio.Event()
        self._traps: list[Trap] = []
        self._budget: dict[Way, int] = {}

    @property
    def connected(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    async def wait_accepted(self, count: int) -> None:
        """Wait until there have been that many connections."""
        while self.accepted < count:
            await self._changed.wait()

    async def wait_connected(self, count: int) -> None:
        """Wait until exactly that many connections are open."""
        while self.connected != count:
            await self._changed.wait()

    async def listen(self) -> None:
        """Take connections, again after `refuse`."""
        await self._nursery.start(self._listen)

    async def refuse(self) -> None:
        """Take no more connections: dialling fails at once. Open ones go on."""
        if self._listening is not None:
            self._listening.cancel()
            await self._closed.wait()

    def freeze(self) -> None:
        """Pass nothing on until `thaw`; nothing is lost."""
        self._flowing = trio.Event()

    def thaw(self) -> None:
        """Pass on what waited, and whatever comes."""
        self._flowing.set()

    def reset(self) -> None:
        """End every open connection with a TCP reset on both sides."""
        for connection in list(self._connections):
            connection.reset()

    def finish(self) -> None:
        """End every open connection in order (FIN) on both sides."""
        for connection in list(self._connections):
            connection.finish()

    def cut_after(self, count: int, way: Way) -> None:
        """Pass on that many more bytes this way, all connections together, then reset."""
        self._budget[way] = count

    def trap(
        self, pattern: bytes, way: Way, action: Callable[[], object], *, forward: bool = True, skip: int = 0
    ) -> Trap:
        """Call `action` once, when a byte string is about to be passed on.

        Args:
            pattern: the bytes; they may come in any number of pieces.
            way: which way they go.
            action: what to do; the piece that completes the pattern is held meanwhile.
            forward: whether that piece then goes on; else the connection is reset and it never arrives.
            skip: how many pieces with the pattern to let pass before.
        """
        trap = Trap(pattern, way, action, forward, skip)
        self._traps.append(trap)
        return trap

    def disarm(self, trap: Trap) -> None:
        """Take a trap away that may not have sprung."""
        if trap in self._traps:
            self._traps.remove(trap)

    async def _listen(self, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self._closed = trio.Event()
        with trio.CancelScope() as self._listening:
            task_status.started()
            await trio.serve_listeners(self._serve, listeners, handler_nursery=self._nursery)
        self._closed.set()

    async def _serve(self, client: trio.SocketStream) -> None:
        connection = _Connection(client)
        self.accepted += 1
        self._connections.add(connection)
        self._note_change()
        try:
            with suppress(*_ENDED):
                if self.black_hole:
                    await self._pump(client, None, connection, Way.UP)
                    await connection.gone.wait()
                    return
                connection.server = server = await self._dial()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump, client, server, connection, Way.UP)
                    nursery.start_soon(self._pump, server, client, connection, Way.DOWN)
        finally:
            self._connections.discard(connection)
            self._note_change()
            for stream in connection.streams:
                stream.socket.close()

    async def _dial(self) -> trio.SocketStream:
        if isinstance(self._upstream, tuple):
            return await trio.open_tcp_stream(*self._upstream)
        stream = await trio.open_unix_socket(str(self._upstream))
        assert isinstance(stream, trio.SocketStream)
        return stream

    async def _pump(
        self, source: trio.SocketStream, sink: trio.SocketStream | None, connection: _Connection, way: Way
    ) -> None:
        """Pass on what comes one way, until its end; an end in a black hole is not passed on."""
        try:
            while piece := await source.receive_some():
                if self.latency:
                    await trio.sleep(self.latency)
                await self._flowing.wait()
                if self.black_hole or sink is None:
                    continue
                if not self._spring(piece, connection, way):
                    connection.reset()
                    return
                budget = self._budget.get(way)
                if budget is not None:
                    self._budget[way] = budget - len(piece)
                    piece = piece[:budget]
                await sink.send_all(piece)
                if budget is not None and self._budget[way] <= 0:
                    del self._budget[way]
                    connection.reset()
                    return
            if sink is not None and not self.black_hole:
                await sink.send_eof()
        except _ENDED:
            if not self.black_hole:
                connection.reset()

    def _spring(self, piece: bytes, connection: _Connection, way: Way) -> bool:
        """Spring the traps that this piece completes; say whether it may go on."""
        forward = True
        seen = connection.tails[way] + piece
        for trap in [trap for trap in self._traps if trap.way is way]:
            start = max(0, len(connection.tails[way]) - len(trap.pattern) + 1)
            if seen.find(trap.pattern, start) < 0:
                continue
            if trap.skip:
                trap.skip -= 1
                continue
            self._traps.remove(trap)
            trap.action()
            trap.sprung.set()
            forward = forward and trap.forward
        longest = max((len(trap.pattern) for trap in self._traps), default=1)
        connection.tails[way] = seen[-longest:]
        return forward

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def open_proxy(upstream: tuple[str, int] | Path) -> AsyncIterator[Proxy]:
    """Run a proxy in front of a TCP address, or of a Unix socket such as PostgreSQL's."""
    async with trio.open_nursery() as nursery:
        proxy = Proxy(nursery, upstream)
        await proxy.listen()
        yield proxy
        nursery.cancel_scope.cancel()
