"""A websocket on one connection (RFC 6455): bounded messages, pings, and an orderly end to every error."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum, auto
from time import time
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, generate_accept_token, split_comma_header

from regsvc.http.server.answer import Answer, InvalidAnswerError
from regsvc.http.server.reporter import SWITCHED, request_line
from regsvc.http.server.websockets.frames import is_complete
from regsvc.http.server.websockets.parked import Guest, Parked
from regsvc.http.server.websockets.parking import SILENT
from regsvc.http.server.wire import GONE

if TYPE_CHECKING:
    from regsvc.http.server.connection import Connection
    from regsvc.http.server.events import RequestLine
    from regsvc.http.server.request import Head

PARK = "regsvc.park"
"""The ASGI extension that takes a guest: the websocket is parked with it when the application returns."""

RESTARTING = 1012
_READ_AHEAD = 65_536  # bytes kept of what a client sends before it is its turn
_MESSAGES = 10  # that wait for the application
_ABANDON_SECONDS = 2.0


class _State(Enum):
    ASKED = auto()
    OPEN = auto()
    CLOSED = auto()  # by the application, which may still run


class MessageBuffer(WebsocketBuffer):
    """Gathers one message; its limit counts bytes, not characters."""

    def extend(self, event: Message[Any]) -> None:
        """Add a part.

        Raises:
            FrameTooLargeError: the message is larger than allowed.
        """
        super().extend(event)
        if isinstance(event.data, str):
            self.length += len(event.data.encode()) - len(event.data)
            if self.length > self.max_length:
                raise FrameTooLargeError


class WebSocket:
    """One websocket. The connection's task reads, the application's sends.

    Args:
        connection: that it takes over.
        head: of the request for it.
    """

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection = connection
        self._wire = connection.wire
        self._limits = connection.shared.limits
        self._fields = dict(head.headers)
        protocols = split_comma_header(self._fields.get(b"sec-websocket-protocol", b""))
        self._scope = connection.make_scope(head, "websocket")
        self._scope |= {
            "scheme": "ws",
            "subprotocols": protocols,
            "extensions": {"websocket.http.response": {}, PARK: self._park},
        }
        self._answer = Answer(connection, "GET", head.target, close=True)
        self._frames = Frames(ConnectionType.SERVER, [])
        self._buffer = MessageBuffer(self._limits.websocket_message)
        self._to_app, self._from_client = trio.open_memory_channel[dict[str, Any]](_MESSAGES)
        self._sending = trio.Lock()
        self._state = _State.ASKED
        self._over = self._woken = False
        self._guest: Guest | None = None
        self._leaving = False  # to be parked
        self._fed: bytearray | None = bytearray()  # what the client sent so far, while it is little
        self._waiting = trio.CancelScope()
        self._close_code = int(CloseReason.ABNORMAL_CLOSURE)
        self._heard = trio.current_time()
        self._next_ping = self._heard + self._limits.ping

    async def run(self) -> None:
        """Serve the websocket to its end."""
        started = time()
        self._to_app.send_nowait({"type": "websocket.connect"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run_application)
            try:
                await self._read()
            except GONE:
                self._connection.hang_up()
            finally:
                self._over = True
                if not self._leaving:
                    self._report(time() - started)
            with suppress(trio.WouldBlock):  # an application that reads nothing is cancelled below
                self._to_app.send_nowait({"type": "websocket.disconnect", "code": self._close_code})
            nursery.cancel_scope.deadline = trio.current_time() + _ABANDON_SECONDS
        self._scope["extensions"].clear()  # which refers to this
        if self._leaving and not self._wire.gone:
            self._hand_over(started)
        elif self._guest is not None:
            self._guest.left()
            if self._leaving:
                self._report(time() - started)

    def wake(self) -> None:
        """Wake the reader to see what changed: the application's doings, or the server's stop."""
        self._woken = True
        self._waiting.cancel()

    async def _read(self) -> None:
        while not (self._over or self._wire.gone):
            deadline = float("inf")
            if self._state is not _State.ASKED:
                await self._take_frames()
                if not self._over and self._connection.shared.context.terminated.is_set():
                    await self._end(RESTARTING)
                if not self._over:
                    deadline = await self._check_liveness()
            if not (self._woken or self._over):
                with trio.CancelScope(deadline=deadline) as self._waiting:
                    if len(self._wire.buffer) > _READ_AHEAD:
                        await trio.sleep_forever()
                    if not await self._wire.receive():
                        self._over = True
                    self._heard = trio.current_time()
            self._woken = False

    async def _take_frames(self) -> None:
        if not self._wire.buffer:
            return
        if self._fed is not None:
            self._fed += self._wire.buffer
            if len(self._fed) > _READ_AHEAD:
                self._fed = None
        self._frames.receive_data(bytes(self._wire.buffer))
        self._wire.buffer.clear()
        for event in self._frames.events():
            if isinstance(event, Message):
                await self._take(event)
            elif isinstance(event, Ping):
                await self._send_frame(event.response())
            elif isinstance(event, CloseConnection):
                # Their close, which is echoed; or bytes that are not of the protocol, with the code for that.
                await self._end(int(event.code))
            if self._over:
                return
            await trio.lowlevel.checkpoint()  # a flood of small frames gets its share of time, not all of it

    async def _take(self, part: Message[Any]) -> None:
        if self._state is _State.CLOSED:
            return  # its client did not know yet
        try:
            self._buffer.extend(part)
            if part.message_finished:
                with trio.fail_after(self._limits.take_seconds):
                    await self._to_app.send(self._buffer.to_message())
                self._buffer.clear()
        except FrameTooLargeError:
            await self._end(CloseReason.MESSAGE_TOO_BIG)
        except trio.TooSlowError:
            await self._end(CloseReason.POLICY_VIOLATION)

    async def _check_liveness(self) -> float:
        """Ping when it is time and end a silent websocket; return when to look again.

        Any byte is a sign of life: a client that answers pings is never silent.
        """
        now = trio.current_time()
        silent = self._heard + self._limits.silence
        if now >= silent:
            await self._end(SILENT)
        elif now >= self._next_ping:
            self._next_ping = now + self._limits.ping
            await self._send_frame(Ping())
        return min(self._next_ping, silent)

    async def _run_application(self) -> None:
        await self._connection.call_application(self._scope, self._from_client.receive, self._send)
        if self._guest is not None:
            self._leaving = not self._over
        elif self._state is _State.ASKED and not self._over:
            await self._answer.fail()
        elif self._state is _State.OPEN and not self._over:
            await self._end(CloseReason.INTERNAL_ERROR)  # it ended without closing
        self._over = True
        self.wake()

    async def _send(self, message: Any) -> None:
        """Take what the application sends (ASGI); nothing of it goes to a client that is gone."""
        # Sending to such a client takes no time: an application that sends on would stop all others.
        await trio.lowlevel.checkpoint()
        kind = message["type"]
        if self._over or self._answer.done or self._guest is not None:
            return
        if kind == "websocket.accept" and self._state is _State.ASKED:
            await self._accept(message)
        elif kind == "websocket.close" and self._state is _State.ASKED:
            await self._answer.fail(403)
        elif kind.startswith("websocket.http.response.") and self._state is _State.ASKED:
            await self._answer.send({**message, "type": kind.removeprefix("websocket.")})
        elif kind == "websocket.send" and self._state is _State.OPEN:
            data = message.get("bytes")
            await self._send_frame(
                TextMessage(message["text"]) if data is None else BytesMessage(bytes(data))
            )
        elif kind == "websocket.close" and self._state is _State.OPEN:
            self._state, self._close_code = (
                _State.CLOSED,
                int(message.get("code", CloseReason.NORMAL_CLOSURE)),
            )
            await self._send_frame(CloseConnection(self._close_code, message.get("reason")))
        else:
            raise InvalidAnswerError(kind)

    async def _accept(self, message: Any) -> None:
        token = generate_accept_token(self._fields[b"sec-websocket-key"])
        headers = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", token),
            *message.get("headers", ()),
        ]
        if (chosen := message.get("subprotocol")) is not None:
            headers.append((b"sec-websocket-protocol", chosen.encode()))
        await self._answer.switch(headers)
        self._state = _State.OPEN
        self.wake()  # what the client sent before can be read

    async def _end(self, code: int) -> None:
        """Close the websocket from our side, or echo the client's close."""
        self._over, self._close_code = True, int(code)
        await self._send_frame(CloseConnection(self._close_code))

    async def _send_frame(self, event: Event) -> None:
        try:
            data = self._frames.send(event)
        except LocalProtocolError:
            return  # it is closed already
        try:
            async with self._sending:
                await self._wire.write(data)
        except GONE:
            self._connection.hang_up()

    def _park(self, guest: Guest) -> None:
        """Park the open websocket when the application returns; it sends nothing more."""
        self._guest = guest

    def _hand_over(self, started: float) -> None:
        assert self._guest is not None  # noqa: S101 - it is what made this leave
        parked = Parked(self._wire.sock, self._guest, self._make_line(0.0), time() - started)
        unread = bytes(self._wire.buffer)
        # Also frames that were fed with the last message, and come behind it.
        parked.frames, parked.size = self._frames, self._buffer.length
        self._connection.park(parked, unread)
        if self._fed is not None and is_complete(bytes(self._fed) + unread):
            parked.frames = None

    def _report(self, seconds: float) -> None:
        self._connection.shared.reporter.request(self._make_line(seconds))

    def _make_line(self, seconds: float) -> RequestLine:
        opened = self._state is not _State.ASKED
        return request_line(
            self._scope,
            SWITCHED if opened else self._answer.status,
            seconds,
            close_code=self._close_code if opened else None,
        )
