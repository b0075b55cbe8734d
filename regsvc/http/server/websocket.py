"""A websocket on one connection (RFC 6455): bounded messages, pings, and an orderly end to every error."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any, cast

import trio
from hypercorn.protocol.events import Data, Event, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, WebsocketBuffer, WSStream
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

from regsvc.http.server.refusals import send_problem
from regsvc.http.server.reporter import SWITCHED, request_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.typing import ASGISendEvent

    from regsvc.http.server.hypercorn_config import ServerConfig

SILENT = 4408


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


class WebSocket(WSStream):
    """One websocket. The connection's reader feeds it, the application's task sends."""

    config: ServerConfig

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.buffer = MessageBuffer(self.config.websocket_max_message_size)
        self.close_code = int(CloseReason.ABNORMAL_CLOSURE)
        self._heard = trio.current_time()
        self._next_ping = self._heard + self.config.limits.ping

    @property
    def accepted(self) -> bool:
        """Whether the application took the websocket; what comes before waits."""
        return self.handshake.accepted

    async def handle(self, event: Event) -> None:
        """Take what came from the client, or the end of the connection."""
        if isinstance(event, Data):
            self._heard = trio.current_time()
        elif isinstance(event, StreamClosed) and not self.closed:
            self._report_end()
        await super().handle(event)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Take what the application sends."""
        if message is not None:
            # Sending to a client that is gone takes no time: an application that sends on would stop all others.
            await trio.lowlevel.checkpoint()
            if message["type"] == "websocket.close" and not self.closed:
                self.close_code = int(message.get("code", CloseReason.NORMAL_CLOSURE))
        elif self.state is ASGIWebsocketState.CONNECTED and not self.closed:
            self.close_code = int(CloseReason.INTERNAL_ERROR)  # it ended without closing
        await super().app_send(message)

    async def end(self, code: int) -> None:
        """Close the websocket, tell the application, and have the connection closed.

        Args:
            code: for the client, if it was not told one before.
        """
        await self._send_wsproto_event(CloseConnection(code=code))
        self.close_code = int(code)
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def check_liveness(self) -> float:
        """Ping when it is time and end a silent websocket; return when to look again.

        Any byte is a sign of life: a client that answers pings is never silent.
        """
        now = trio.current_time()
        silent = self._heard + self.config.limits.silence
        if now >= silent:
            await self.end(SILENT)
        elif now >= self._next_ping:
            self._next_ping = now + self.config.limits.ping
            await self._send_wsproto_event(Ping())
        return min(self._next_ping, silent)

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, Message):
                await self._take(event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, CloseConnection):
                # Their close, which is echoed; or bytes that are not of the protocol, with the code for that.
                await self.end(int(event.code))
            if self.closed:
                return
            await trio.lowlevel.checkpoint()  # a flood of small frames gets its share of time, not all of it

    async def _take(self, part: Message[Any]) -> None:
        if self.state is ASGIWebsocketState.CLOSED:
            return  # the application closed; its client did not know yet
        try:
            self.buffer.extend(part)
            if part.message_finished:
                put = cast("Callable[[dict[Any, Any]], Awaitable[None]]", self.app_put)
                await put(self.buffer.to_message())
                self.buffer.clear()
        except FrameTooLargeError:
            await self.end(CloseReason.MESSAGE_TOO_BIG)
        except trio.TooSlowError:
            await self.end(CloseReason.POLICY_VIOLATION)

    async def _send_error_response(self, status_code: int) -> None:
        await send_problem(self, status_code)

    def _report_end(self) -> None:
        seconds = time() - self.start_time
        if self.accepted:
            line = request_line(self.scope, SWITCHED, seconds, close_code=self.close_code)
        elif self.state is ASGIWebsocketState.HANDSHAKE:
            line = request_line(self.scope, None, seconds)
        else:
            return  # it was refused, and told of then
        self.config.reporter.request(line)
