"""The HTTP server: Hypercorn's parts, made to outlive their clients.

Nothing that a client sends ends the server or its listener, nothing that it does not send or take holds
anything for longer than a deadline, and a stop is orderly.
"""

from __future__ import annotations

import resource
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import LifespanTimeoutError

from regsvc.http.server.connection import Connection, Shared
from regsvc.http.server.events import (
    ConnectionFailed,
    DrainFinished,
    DrainStarted,
    Event,
    Listening,
    RequestLine,
    log_event,
)
from regsvc.http.server.hang_ups import HangUps
from regsvc.http.server.limits import Limits
from regsvc.http.server.peers import LOOPBACK, CrowdedError, Network, Peers
from regsvc.http.server.reporter import Reporter, bare
from regsvc.http.server.websockets.parked import Parked
from regsvc.http.server.websockets.parking import Parking
from regsvc.http.server.websockets.websocket import RESTARTING
from regsvc.processes.listeners import name_address, open_listeners
from regsvc.processes.sockets import Handed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypercorn.typing import ASGIFramework

__all__ = ["Limits", "Server", "ServerStatistics"]

_RESERVED_FILES = 128  # descriptors that are not for connections: database, broker, mail, files
_TURNED_AWAY = 64  # connections that are told so at the same time; more are just closed
_TURNING_AWAY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """The server at one moment; all but `open` count since it was made.

    Args:
        open: connections.
        accepted: connections.
        refused: connections over the limit of all, or of one peer.
        cut: connections ended because the client took nothing for too long, or the grace of a stop was over.
        caught: errors that stopped at the barrier around a connection.
    """

    open: int
    accepted: int
    refused: int
    cut: int
    caught: int


class Server:
    """Serves one ASGI application.

    Args:
        app: the application. `scope["state"]["request_id"]` is the id that the answer's `X-Request-Id` has.
        hosts: what to listen on, as `open_listeners` takes it.
        port: 0 for a free one.
        handed: what to listen on instead, from the supervisor of several processes.
        stopping: stops the server once it is set.
        limits: what a connection may take. One peer may hold half of the connections.
        spared: networks of peers that may hold them all, such as proxies.
        lame_duck: seconds after that for which everything goes on, but answers close their connections:
            a load balancer that asks `/readyz` learns of the stop before connections are refused.
        grace: seconds after that for what is in flight to finish.
        on_request: called with every request, if it is given.
        on_event: told of what happens to the server.
    """

    def __init__(
        self,
        app: ASGIFramework,
        *,
        hosts: Sequence[str] = (),
        port: int = 0,
        handed: Handed | None = None,
        stopping: trio.Event,
        limits: Limits | None = None,
        spared: Sequence[Network] = LOOPBACK,
        lame_duck: float = 1.0,
        grace: float = 15.0,
        on_request: Callable[[RequestLine], None] | None = None,
        on_event: Callable[[Event], None] = log_event,
    ) -> None:
        self._app = app
        self._hosts = tuple(hosts)
        self._port = port
        self._handed = handed
        self._stopping = stopping
        self._limits = limits or Limits()
        self._room = _find_room(self._limits)
        self._peers = Peers(max(self._room // 2, 1), spared)
        self._lame_duck = lame_duck
        self._grace = grace
        self._reporter = Reporter(on_request, on_event)
        self._connections: set[Connection] = set()
        self._parking = Parking(self._limits, self._reporter, self._note_left)
        self._left = trio.lowlevel.ParkingLot()
        self._turning_away = self._accepted = self._refused = self._cut = self._caught = 0

    def statistics(self) -> ServerStatistics:
        """Return how the server is doing."""
        return ServerStatistics(
            open=len(self._connections) + len(self._parking),
            accepted=self._accepted,
            refused=self._refused,
            cut=self._cut,
            caught=self._caught,
        )

    async def serve(
        self, *, task_status: trio.TaskStatus[list[tuple[str, int]]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until `stopping` is set and every connection is gone or cut off.

        `started` gets the addresses that are listened on.

        Raises:
            OSError: the address cannot be listened on, before anything is started.
        """
        handed = self._handed
        with open_listeners(self._hosts, self._port) if handed is None else handed.open() as sockets:
            lifespan = Lifespan(ASGIWrapper(self._app), _make_config(self._reporter), {})
            async with trio.open_nursery() as nursery:
                await nursery.start(lifespan.handle_lifespan)
                await lifespan.wait_for_startup()
                await self._serve_sockets(sockets, task_status)
                with suppress(LifespanTimeoutError):
                    await lifespan.wait_for_shutdown()
                nursery.cancel_scope.cancel()

    async def _serve_sockets(
        self, sockets: Sequence[socket.socket], task_status: trio.TaskStatus[list[tuple[str, int]]]
    ) -> None:
        addresses = [name_address(sock) for sock in sockets]
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
        context, hang_ups = WorkerContext(None), HangUps()
        self._parking = Parking(self._limits, self._reporter, self._note_left)
        shared = Shared(self._app, self._limits, self._reporter, context, hang_ups, self._parking)
        handler = partial(self._serve_connection, shared)
        async with trio.open_nursery() as connections:
            connections.start_soon(hang_ups.run)
            await connections.start(self._parking.run)
            try:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(trio.serve_listeners, handler, listeners, handler_nursery=connections)
                    )
                    self._reporter.event(Listening(tuple(addresses)))
                    task_status.started(addresses)
                    await self._stopping.wait()
                    await context.terminate.set()
                    await trio.sleep(self._lame_duck)
                    accepting.cancel_scope.cancel()
                if self._handed is not None:
                    self._handed.retire()
                await context.terminated.set()
                await self._drain()
            finally:
                # Also when this is cancelled from outside: what is being sent ends with its socket alone.
                for connection in self._connections:
                    connection.abort()
                self._parking.abort_all()
                connections.cancel_scope.cancel()

    async def _drain(self) -> None:
        self._reporter.event(DrainStarted(len(self._connections) + len(self._parking)))
        for connection in self._connections:
            connection.wake()
        with trio.move_on_after(self._grace):
            await self._parking.close_all(RESTARTING)
            while self._connections or len(self._parking):
                await self._left.park()
        left = len(self._connections) + len(self._parking)
        self._cut += left
        self._reporter.event(DrainFinished(left))

    async def _serve_connection(self, shared: Shared, stream: trio.SocketStream) -> None:
        """Serve one connection behind a barrier: no error of one ends another or the server."""
        self._accepted += 1
        try:
            connection = Connection(shared, _take_socket(stream))
            try:
                peer = self._admit(connection)
            except CrowdedError:
                self._refused += 1
                await self._turn_away(connection)
                return
            try:
                await self._run(connection)
            finally:
                if connection.parked is None:
                    self._peers.leave(peer)
                else:
                    connection.parked.peer = peer
        except* Exception as errors:  # noqa: BLE001 - the barrier
            self._caught += 1
            self._reporter.event(ConnectionFailed(bare(errors), self._caught))

    def _admit(self, connection: Connection) -> Network | None:
        if len(self._connections) + len(self._parking) >= self._room:
            raise CrowdedError
        return self._peers.enter(connection.client[0] if connection.client else "")

    async def _run(self, connection: Connection) -> None:
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._cut += connection.wire.cut
            self._left.unpark_all()

    def _note_left(self, parked: Parked) -> None:
        self._peers.leave(parked.peer)
        self._cut += parked.cut
        self._left.unpark_all()

    async def _turn_away(self, connection: Connection) -> None:
        if self._turning_away == _TURNED_AWAY:
            connection.wire.close()
            return
        self._turning_away += 1
        try:
            with trio.move_on_after(_TURNING_AWAY_SECONDS):
                await connection.turn_away()
        finally:
            self._turning_away -= 1
            connection.wire.close()


def _make_config(reporter: Reporter) -> Config:
    """Return what Hypercorn's lifespan goes by."""
    config = Config()
    config.startup_timeout, config.shutdown_timeout = 10.0, 2.0
    config.logger_class = lambda _config: reporter  # type: ignore[assignment,return-value]  # as good as one
    return config


def _take_socket(stream: trio.SocketStream) -> socket.socket:
    """Return the plain socket of a stream: Trio's own has no way to send without a wait."""
    sock = stream.socket
    plain = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
    plain.settimeout(0)
    return plain


def _find_room(limits: Limits) -> int:
    """Return how many connections there may be, given how many files the process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return limits.connections
    return min(limits.connections, max(files - _RESERVED_FILES, files // 2))
