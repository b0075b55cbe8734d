"""HTTP/1.1 on one connection: a request is read whole, handed to the application, and answered.

Reading it whole is what keeps the rest simple: limits and deadlines lie behind when the application starts, it
never waits for a slow client, and a refusal never races an answer.
"""

from __future__ import annotations

from http import HTTPStatus
from math import inf
from time import time
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import h11
import trio
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Body, Data, EndBody, Request, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.typing import ConnectionState, H11SendableEvent

from regsvc.http.server.events import RequestLine
from regsvc.http.server.exchange import Exchange
from regsvc.http.server.refusals import REQUEST_ID, RefusedError, answer
from regsvc.http.server.reporter import METHOD_CHARACTERS, SWITCHED, told_path
from regsvc.http.server.request_head import asks_for_websocket, check_head, headers_for_websocket
from regsvc.http.server.websocket import WebSocket
from regsvc.logs import client_prefix

if TYPE_CHECKING:
    from regsvc.http.server.hypercorn_config import ServerConfig

_READ_AHEAD = 65_536  # bytes kept of what a client sends before its turn
_CHUNKING = 16  # times the size of a body, in which the shortest chunks have to send it
_RESTARTING = 1012


class Protocol(H11Protocol):
    """What goes over one connection.

    Two tasks share it. The connection's reader parses: it calls `advance` when it read something, when
    `deadline` has come, and when the protocol asks for it by `Closed` or `Updated(idle=False)`. The application's
    task answers, through `stream_send`.

    Attributes:
        deadline: by trio's clock, when something has to have happened.
        closing: the exchange on this connection was its last.
    """

    config: ServerConfig
    connection: h11.Connection | H11WSConnection
    stream: Exchange | WebSocket | None
    _begun: bool  # bytes of a request came
    _skipped: bool  # an empty line before it
    _request: h11.Request | None
    _request_id: str
    _body: bytearray
    _body_sent: int  # bytes it took to send that much of it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.closing = False
        self._http = self.connection = cast("h11.Connection", self.connection)
        self._unsent = b""
        self._expect_request()

    @property
    def full(self) -> bool:
        """Enough was read ahead; the rest can wait in the client."""
        return self.stream is not None and self._buffered() > _READ_AHEAD

    async def handle(self, event: Event) -> None:
        """Take bytes, the end of what the client sends (no bytes), or the end of the connection."""
        if isinstance(event, RawData):
            self._body_sent += len(event.data) if self._request else 0
            self.connection.receive_data(event.data)
        else:
            await super().handle(event)

    async def advance(self) -> None:
        """Process what has been read so far."""
        if self.stream is None:
            await self._read_request()
        if isinstance(self.stream, WebSocket) and self.stream.accepted:
            await self._read_websocket(self.stream)
        if self.stream is not None or self.closing:
            return
        late = trio.current_time() >= self.deadline
        if self._begun and late:
            await self.refuse(408)
        elif not self._begun and (late or self.context.terminated.is_set()):
            await self._end()

    async def refuse(self, status: int) -> None:
        """Answer the request that is being read with a problem, and close."""
        request = self._request
        line = RequestLine(
            kind="http",
            method=request.method.decode("ascii")[:METHOD_CHARACTERS] if request else "",
            path=told_path(request.target) if request else "",
            status=status,
            milliseconds=0.0,
            request_id=self._request_id,
            client=client_prefix(self.client[0] if self.client else ""),
        )
        self.config.reporter.request(line)
        with_body = request is None or request.method != b"HEAD"
        data = answer(status, line.request_id, now=time(), path=line.path, with_body=with_body)
        await self.send(RawData(data))
        await self._end()

    async def stream_send(self, event: StreamEvent) -> None:
        """Take what a stream sends to the client."""
        if isinstance(event, Response):
            event = Response(STREAM_ID, self._complete(event), event.status_code)
        await super().stream_send(event)
        if isinstance(event, Response) and event.status_code == SWITCHED:
            # Nothing of HTTP is left, which is a good part of what an open websocket would cost.
            del self._http, cast("H11WSConnection", self.connection).h11_connection
            await self.send(Updated(idle=False))  # what the client sent before it was accepted can be read

    async def _read_request(self) -> None:
        try:
            while self.stream is None and not self.closing and await self._read_part():
                pass
        except RefusedError as refusal:
            await self.refuse(refusal.status)
        except h11.RemoteProtocolError as error:
            await self.refuse(error.error_status_hint)

    async def _read_part(self) -> bool:
        """Read the next part of a request; False if more has to come first."""
        limits = self.config.limits
        waiting = 0 if self._request else self._buffered()
        if waiting and not self._begun:
            self._begun = True
            self.deadline = trio.current_time() + limits.header_seconds
        if self._request is None and not self._skip_empty_line():
            return False
        part = self._http.next_event()
        match part:
            case h11.Request():
                self._request = part
                self.deadline = trio.current_time() + limits.body_seconds
                check_head(part, waiting - self._buffered(), limits)
            case h11.Data():
                self._body += part.data
                if len(self._body) > limits.body_bytes:
                    raise RefusedError(413)
            case _ if self._body_sent > _CHUNKING * limits.body_bytes:
                raise RefusedError(413)
            case h11.EndOfMessage():
                self.deadline = inf
                await self._create_stream(cast("h11.Request", self._request))
            case h11.ConnectionClosed():
                await self._end()
            case _:
                if self._http.they_are_waiting_for_100_continue:
                    await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))
                return False
        return True

    def _skip_empty_line(self) -> bool:
        """Skip one empty line before a request (RFC 9112, 2.2); False if the rest of it has to come first."""
        start = self._http.trailing_data[0][:2]
        if self._skipped or start[:1] != b"\r":
            return True
        if start == b"\r\n":
            self._http._receive_buffer.maybe_extract_at_most(2)  # noqa: SLF001 - h11 has no other way
            self._skipped = True
        return start != b"\r"

    async def _create_stream(self, request: h11.Request) -> None:
        is_websocket = asks_for_websocket(request)
        headers = headers_for_websocket(request) if is_websocket else list(request.headers)
        if is_websocket:
            self.connection = H11WSConnection(self._http)
        stream = (WebSocket if is_websocket else Exchange)(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        self.stream = stream
        self.keep_alive_requests += 1
        body, self._body, self._request = bytes(self._body), bytearray(), None
        await stream.handle(
            Request(
                STREAM_ID,
                headers=headers,
                http_version="1.0" if request.http_version == b"1.0" else "1.1",
                method=request.method.decode("ascii"),
                raw_path=request.target,
                state=ConnectionState({**self.connection_state, "request_id": self._request_id}),
            )
        )
        if isinstance(stream, Exchange):
            if body:
                await stream.handle(Body(STREAM_ID, data=body))
            await stream.handle(EndBody(STREAM_ID))

    async def _read_websocket(self, websocket: WebSocket) -> None:
        while not websocket.closed and isinstance(data := self.connection.next_event(), Data):
            await websocket.handle(data)
        if not websocket.closed and self.context.terminated.is_set():
            await websocket.end(_RESTARTING)
        if not websocket.closed:
            self.deadline = await websocket.check_liveness()

    async def _maybe_recycle(self) -> None:
        await self._close_stream()
        http = self.connection
        if isinstance(http, h11.Connection) and http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
            self._expect_request()
            await self.send(Updated(idle=not self._buffered() and not self.context.terminated.is_set()))
        else:
            await self._end()

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if self._http.our_state is h11.ERROR:
            return  # the application broke its answer off; all that is left is to close
        data = self._unsent + self._http.send(event)
        if isinstance(event, h11.Response):
            self._unsent = data  # it goes out with the first of its body, in one segment
            return
        self._unsent = b""
        if data:
            await self.send(RawData(data))

    async def _end(self) -> None:
        self.closing = True
        await self.send(Closed())

    def _expect_request(self) -> None:
        self._begun = self._skipped = False
        self._request = None
        self._request_id = uuid4().hex
        self._body = bytearray()
        self._body_sent = 0
        self.deadline = trio.current_time() + self.config.limits.keep_alive

    def _complete(self, response: Response) -> list[tuple[bytes, bytes]]:
        """Return the headers with what every answer has, and a close for those after which we do."""
        headers = list(response.headers)
        if response.status_code == HTTPStatus.NO_CONTENT:
            headers = [
                field for field in headers if field[0].lower() != b"content-length"
            ]  # RFC 9110 section 8.6
        if all(name.lower() != REQUEST_ID for name, _ in headers):
            headers.append((REQUEST_ID, self._request_id.encode()))
        refused = isinstance(self.stream, WebSocket)
        if response.status_code != SWITCHED and (refused or self.context.terminate.is_set()):
            headers.append((b"connection", b"close"))
        return headers

    def _buffered(self) -> int:
        if isinstance(self.connection, H11WSConnection):
            return len(self.connection.buffer)
        return len(self.connection.trailing_data[0])
