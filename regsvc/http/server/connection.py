"""One connection in one task: a request is read whole, handed to the application, and answered.

Reading it whole is what keeps the rest simple: limits and deadlines lie behind when the application starts, it never
waits for a slow client, and a refusal never races an answer.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from random import getrandbits
from time import time
from typing import Any
from urllib.parse import unquote

import trio
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework
from hypercorn.utils import parse_socket_addr

from regsvc.http.server.answer import Answer
from regsvc.http.server.events import ApplicationFailed
from regsvc.http.server.hang_ups import HangUps
from regsvc.http.server.limits import Limits
from regsvc.http.server.refusals import RefusedError
from regsvc.http.server.reporter import Reporter, bare, request_line
from regsvc.http.server.request import Head, find_line, read_body, read_head, take_head
from regsvc.http.server.websockets.parked import Parked
from regsvc.http.server.websockets.parking import Parking
from regsvc.http.server.websockets.websocket import WebSocket
from regsvc.http.server.wire import GONE, Wire

_ASGI = {"spec_version": "2.3", "version": "3.0"}


@dataclass(frozen=True, slots=True)
class Shared:
    """What all connections of a server work with.

    Args:
        app: the application.
        limits: of each.
        reporter: who is told of requests and errors.
        context: `terminate` is set when the server is asked to stop (from then on answers say `Connection: close`),
            `terminated` when it no longer takes connections (idle ones end, websockets get 1012).
        hang_ups: watches clients while they wait.
        parking: holds websockets that wait without a task.
    """

    app: ASGIFramework
    limits: Limits
    reporter: Reporter
    context: WorkerContext
    hang_ups: HangUps
    parking: Parking


class _Stage(Enum):
    IDLE = auto()
    READING = auto()
    ANSWERING = auto()


class Connection:
    """Serves one connection.

    Args:
        shared: with all others.
        sock: not blocking; closed by this.

    Attributes:
        wire: its bytes.
        client: address and port of the other end; None for a Unix socket.
        request_id: of the current request.
        parked: the websocket that the connection became, which holds it from then on.
    """

    def __init__(self, shared: Shared, sock: socket.socket) -> None:
        self.shared = shared
        self.wire = Wire(sock, shared.limits)
        self.client = self._server = None
        with suppress(OSError):  # reset before it was accepted, which reading will tell
            self.client = parse_socket_addr(sock.family, sock.getpeername())
            self._server = parse_socket_addr(sock.family, sock.getsockname())
        self._stage = _Stage.IDLE
        self._closing = False  # behind the current answer
        self._scope = trio.CancelScope()  # of requests, awaited or answered
        self._head = b""  # of the current request
        self._websocket: WebSocket | None = None
        self.parked: Parked | None = None
        self.request_id = _make_id()

    async def run(self) -> None:
        """Serve the connection to its end."""
        try:
            with suppress(*GONE):
                await self._serve()
                if not (self.wire.gone or self.parked):
                    await self.wire.linger()
        finally:
            if not self.parked:
                self.wire.close()

    async def turn_away(self) -> None:
        """Answer that there is no room."""
        with suppress(*GONE):
            await Answer(self, "", b"", close=True).fail(503)
            await self.wire.linger()

    def park(self, parked: Parked, unread: bytes) -> None:
        """Leave the connection, a websocket by now, to the parking."""
        self.parked = parked
        self.shared.parking.take(parked, unread)

    def wake(self) -> None:
        """End an idle connection, and wake a websocket to see whether it should end: the server stops."""
        if self._websocket is not None:
            self._websocket.wake()
        elif self._stage is _Stage.IDLE:
            self._scope.cancel()

    def hang_up(self) -> None:
        """Cancel what is done for a client that is gone."""
        self.wire.gone = True
        self._scope.cancel()
        if self._websocket is not None:
            self._websocket.wake()

    def abort(self) -> None:
        """End the connection with a reset."""
        self.wire.abort()
        self.hang_up()

    async def call_application(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Run the application for one request; its errors are reported."""
        try:
            await self.shared.app(scope, receive, send)  # type: ignore[arg-type]  # of either kind
        except* Exception as errors:  # noqa: BLE001 - the barrier
            self.shared.reporter.event(ApplicationFailed(bare(errors), self.request_id))

    def make_scope(self, head: Head, kind: str) -> dict[str, Any]:
        """Return what the application is told of a request (ASGI)."""
        path, _, query = head.target.partition(b"?")
        text = path.decode("ascii")
        return {
            "type": kind,
            "asgi": _ASGI,
            "http_version": head.version,
            "method": head.method,
            "scheme": "http",
            "path": unquote(text) if "%" in text else text,
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": head.headers,
            "client": self.client,
            "server": self._server,
            "state": {"request_id": self.request_id},
            "extensions": {},
        }

    async def _serve(self) -> None:
        while not (self._closing or self.wire.gone or self._websocket):
            refused = 0
            with trio.CancelScope() as self._scope:
                try:
                    await self._serve_requests(self._scope)
                except RefusedError as refusal:
                    refused = refusal.status
            if self._scope.cancelled_caught:
                self._closing = True
                refused = 408 if self._stage is _Stage.READING else 0
            if refused and not self.wire.gone:
                self._closing = True
                await self._refuse(refused)
        if self._websocket:
            await self._websocket.run()

    async def _serve_requests(self, scope: trio.CancelScope) -> None:
        """Serve one request after the other. What comes just as the scope is cancelled is left in the buffer."""
        wire, limits = self.wire, self.shared.limits
        while not (self._closing or scope.cancel_called):
            if not wire.buffer:
                if self.shared.context.terminated.is_set():
                    self._closing = True
                    return
                scope.deadline = trio.current_time() + limits.keep_alive
                self._closing = not await wire.receive()
                continue
            self._stage = _Stage.READING
            self._head = await take_head(wire, scope)
            head = read_head(self._head, limits)
            body = await read_body(wire, head, scope) if head.length or head.chunked else b""
            if scope.cancel_called:  # at the last moment, when nothing waited any more
                raise RefusedError(408)
            scope.deadline = inf
            self._stage = _Stage.ANSWERING
            if head.wants_websocket:
                self._websocket = WebSocket(self, head)
                return
            await self._answer(head, body)
            self._stage = _Stage.IDLE
            self._head = b""
            self.request_id = _make_id()
            if wire.buffer:
                await (
                    trio.lowlevel.checkpoint()
                )  # a client that pipelines gets its share of time, not all of it

    async def _answer(self, head: Head, body: bytes) -> None:
        shared, started = self.shared, time()
        scope = self.make_scope(head, "http")
        answer = Answer(self, head.method, head.target, version=head.version, close=not head.keeps_alive)
        unread = [body]

        async def receive() -> dict[str, Any]:
            if not unread:
                await trio.sleep_forever()  # the end of the client is told by a cancellation
            return {"type": "http.request", "body": unread.pop(), "more_body": False}

        shared.hang_ups.watch(self)
        try:
            await self.call_application(scope, receive, answer.send)
            if not answer.done:
                await answer.fail()
        finally:
            shared.hang_ups.forget(self)
            self._closing |= answer.close
            shared.reporter.request(request_line(scope, answer.status, time() - started))

    async def _refuse(self, status: int) -> None:
        """Answer the request that is being read with a problem."""
        method, target = find_line(self._head) or ("", b"")
        scope = {
            "type": "http",
            "method": method,
            "raw_path": target,
            "client": self.client,
            "state": {"request_id": self.request_id},
        }
        self.shared.reporter.request(request_line(scope, status, 0.0))
        await Answer(self, method, target, close=True).fail(status)


def _make_id() -> str:
    return f"{getrandbits(128):032x}"  # a name, not a secret
