"""One connection: read, written and ended under deadlines."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from regsvc.http.server.application_tasks import ApplicationTasks
from regsvc.http.server.protocol import Protocol

if TYPE_CHECKING:
    from hypercorn.app_wrappers import ASGIWrapper
    from hypercorn.trio.worker_context import WorkerContext

    from regsvc.http.server.hypercorn_config import ServerConfig

_RECEIVE_BYTES = 16_384
_SEND_BYTES = 16_384
_LINGER_READS = 64
_ABANDON_SECONDS = 2.0
_RESET = struct.pack("ii", 1, 0)

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Connection(TCPServer):
    """Reads one connection until it ends, and writes to it.

    Args:
        app: the application.
        config: with our limits.
        context: `terminate` is set when the server is asked to stop (from then on answers say
            `Connection: close`), `terminated` when it no longer takes connections (idle ones end, websockets
            get 1012).
        stream: the connection.

    Attributes:
        cut: it was ended because the client took nothing for too long.
    """

    config: ServerConfig
    protocol: Protocol  # type: ignore[assignment]  # there is one, and nothing to switch to
    stream: trio.SocketStream  # type: ignore[assignment]  # TLS ends at the proxy

    def __init__(
        self,
        app: ASGIWrapper,
        config: ServerConfig,
        context: WorkerContext,
        stream: trio.SocketStream,
    ) -> None:
        super().__init__(app, config, context, {}, stream)  # type: ignore[arg-type]  # no TLS
        del self.idle_task  # the deadline of the reader does its work, at less memory
        self.cut = False
        self._aborted = False
        self._woken = False
        self._waiting = trio.CancelScope()

    async def run(self) -> None:
        """Serve the connection to its end."""
        sock = self.stream.socket
        try:
            client = parse_socket_addr(sock.family, sock.getpeername())
            server = parse_socket_addr(sock.family, sock.getsockname())
        except OSError:
            return  # reset before it was accepted
        tasks = ApplicationTasks(self.config)
        async with tasks:
            self.protocol = Protocol(
                self.app,
                self.config,
                self.context,
                tasks,
                ConnectionState({}),
                ssl=False,
                client=client,
                server=server,
                send=self.protocol_send,
            )
            await self._read_data()
            await self.protocol.handle(Closed())
            tasks.cancel_after(_ABANDON_SECONDS)

    async def protocol_send(self, event: Event) -> None:
        """Write bytes; for other events, have the reader look at what changed."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Updated) and event.idle:
            self._waiting.deadline = self.protocol.deadline  # has changed; there is nothing else to see to
        else:
            self.wake()

    def wake(self) -> None:
        """Wake the reader, which calls `Protocol.advance`."""
        self._woken = True
        self._waiting.cancel()

    def abort(self) -> None:
        """End the connection with a reset, forgetting what was not sent yet."""
        with suppress(OSError):
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.stream.socket.close()
        self._aborted = True
        self.wake()

    async def _read_data(self) -> None:
        await self.protocol.advance()
        while not self.protocol.closing:
            try:
                data = await self._receive()
            except _GONE:
                return
            if data == b"" and self.protocol.stream is not None:
                async with self.send_lock:
                    return  # a client that hangs up during its answer does not want the rest
            if self._aborted:
                return
            if data is not None:
                await self.protocol.handle(RawData(data))
            await self.protocol.advance()
        with suppress(*_GONE), trio.move_on_after(self.config.limits.linger_seconds):
            await self._linger()
        await trio.aclose_forcefully(self.stream)

    async def _receive(self) -> bytes | None:
        """Return what came, nothing at the end of it, None when there is something else to see to first."""
        if not self._woken:
            with trio.CancelScope(deadline=self.protocol.deadline) as self._waiting:
                if self.protocol.full:
                    await trio.sleep_forever()
                return bytes(await self.stream.receive_some(_RECEIVE_BYTES))
        self._woken = False
        return None

    async def _send(self, data: bytes) -> None:
        """Write bytes; a client that takes none for `send_seconds` is cut off.

        A cancellation waits for that long at most: half an answer or half a frame would spoil what follows.
        """
        seconds = self.config.limits.send_seconds
        scope = trio.CancelScope(shield=True, deadline=trio.current_time() + seconds)
        with suppress(*_GONE), scope:
            async with self.send_lock:
                for start in range(0, len(data), _SEND_BYTES):
                    scope.deadline = trio.current_time() + seconds
                    await self.stream.send_all(data[start : start + _SEND_BYTES])
            return
        self.cut |= scope.cancelled_caught
        self.abort()
        await self.protocol.handle(Closed())

    async def _linger(self) -> None:
        """Send FIN and read on for a little: closing at once could lose the answer to a reset."""
        async with self.send_lock:
            await self.stream.send_eof()
        for _ in range(_LINGER_READS):
            if not await self.stream.receive_some(_RECEIVE_BYTES):
                break
