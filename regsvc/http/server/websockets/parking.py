"""All websockets that wait without a task of their own: one selector, one reader and one clock for thousands.

A handler parks its websocket with a guest, and returns. From then on what the client sends is read and answered here:
pings, closes, and what is against the protocol; messages are read and dropped. The guest sends and closes, and is told
of the end.
"""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

import trio
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionType
from wsproto.events import CloseConnection, Event, Message, Ping
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError

from regsvc.http.server.websockets.frames import PING_FRAME, close_frame, is_pong
from regsvc.http.server.websockets.parked import Parked

if TYPE_CHECKING:
    from regsvc.http.server.limits import Limits
    from regsvc.http.server.reporter import Reporter

SILENT = 4408
_PIECE = 16_384  # bytes that a client has to take before its deadline
_READ = 4_096
_MOST_UNSENT = 65_536  # bytes that wait for a client; one that is further behind is cut off
_AT_ONCE = 64  # websockets between two turns for others
_TICK = 0.25  # seconds; pings may be as late
_RESET = struct.pack("ii", 1, 0)


class Parking:
    """Holds parked websockets.

    Args:
        limits: of each.
        reporter: told of their ends.
        on_left: called with each that is gone.
    """

    def __init__(self, limits: Limits, reporter: Reporter, on_left: Callable[[Parked], None]) -> None:
        self._limits = limits
        self._reporter = reporter
        self._on_left = on_left
        self._selector = selectors.DefaultSelector()
        self._all: set[Parked] = set()
        self._clock: list[tuple[float, int, Parked]] = []
        self._numbers = count()
        self._tick = min(_TICK, limits.ping / 4, limits.linger_seconds / 4)
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._all)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold them until this is cancelled, which cuts off those that are left."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._keep_time)
                task_status.started()
                await self._read()
        finally:
            self._nursery = None
            for parked in list(self._all):
                self._abort(parked)
            self._selector.close()

    def start_soon(self, run: Callable[[], Awaitable[None]]) -> None:
        """Run something for as long as this runs."""
        assert self._nursery is not None  # noqa: S101 - the server starts this before it accepts
        self._nursery.start_soon(run)

    def take(self, parked: Parked, unread: bytes) -> None:
        """Take a websocket that is open.

        Args:
            parked: the websocket.
            unread: what its client sent and is still to be read.
        """
        self._all.add(parked)
        self._selector.register(parked.sock, selectors.EVENT_READ, parked)
        self._schedule(parked, parked.heard + min(self._limits.ping, self._limits.silence))
        if parked.guest is not None:
            parked.guest.settle(parked, self)
        if parked.guest is not None:
            self._take_bytes(parked, unread)

    def send(self, parked: Parked, frame: bytes) -> None:
        """Send a frame, now or as soon as the client takes it."""
        if parked.guest is not None:
            self._write(parked, frame)

    def close(self, parked: Parked, code: int, reason: str = "") -> None:
        """Close a websocket; what was sent before still goes out."""
        if parked.guest is not None:
            self._end(parked, code, close_frame(code, reason))

    async def close_all(self, code: int) -> None:
        """Close all websockets."""
        for number, parked in enumerate(list(self._all)):
            self.close(parked, code)
            if number % _AT_ONCE == _AT_ONCE - 1:
                await trio.lowlevel.checkpoint()

    def abort_all(self) -> None:
        """End all connections with a reset."""
        for parked in list(self._all):
            self._abort(parked)

    async def _read(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._selector.fileno())
            for number, (key, _) in enumerate(self._selector.select(0)):
                if key.data in self._all:
                    self._receive(key.data)
                if number % _AT_ONCE == _AT_ONCE - 1:
                    await trio.lowlevel.checkpoint()

    def _receive(self, parked: Parked) -> None:
        try:
            data = parked.sock.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._drop(parked)
        elif parked.guest is not None:
            parked.heard = trio.current_time()
            if parked.frames is not None or not is_pong(data):
                self._take_bytes(parked, data)

    def _take_bytes(self, parked: Parked, data: bytes) -> None:
        frames = parked.frames = parked.frames or Frames(ConnectionType.SERVER, [])
        if data:
            frames.receive_data(data)
        for event in frames.events():
            self._take_event(parked, frames, event)
            if parked.guest is None:
                return

    def _take_event(self, parked: Parked, frames: Frames, event: Event) -> None:
        if isinstance(event, Message):
            content: Any = event.data
            parked.size += len(content.encode() if isinstance(content, str) else content)
            if parked.size > self._limits.websocket_message:
                self.close(parked, CloseReason.MESSAGE_TOO_BIG)
            elif event.message_finished:
                parked.size = 0
        elif isinstance(event, Ping):
            self._write(parked, frames.send(event.response()))
        elif isinstance(event, CloseConnection):
            # Their close, which is echoed; or bytes that are not of the protocol, with the code for that.
            with suppress(LocalProtocolError):
                self._end(parked, int(event.code), frames.send(CloseConnection(int(event.code))))

    async def _keep_time(self) -> None:
        while True:
            await trio.sleep(self._tick)
            now, looked = trio.current_time(), 0
            while self._clock and self._clock[0][0] <= now:
                due, _, parked = heappop(self._clock)
                if parked in self._all and parked.due == due:
                    self._look(parked, now)
                looked += 1
                if looked % _AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()

    def _look(self, parked: Parked, now: float) -> None:
        """Ping a websocket, end one that is silent, and forget one that was closed."""
        silent = parked.heard + self._limits.silence
        if parked.guest is None:
            self._drop(parked)
        elif now >= silent:
            self.close(parked, SILENT)
        else:
            self._write(parked, PING_FRAME)
            self._schedule(parked, min(now + self._limits.ping, silent))

    def _schedule(self, parked: Parked, due: float) -> None:
        parked.due = due
        heappush(self._clock, (due, next(self._numbers), parked))

    def _write(self, parked: Parked, data: bytes) -> None:
        if parked.unsent is not None:
            parked.unsent += data
            if len(parked.unsent) > _MOST_UNSENT:
                self._cut(parked)
            return
        try:
            sent = parked.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._drop(parked)
            return
        if sent < len(data):
            parked.unsent = bytearray(data[sent:])
            self.start_soon(lambda: self._write_rest(parked))

    async def _write_rest(self, parked: Parked) -> None:
        """Write what a slow client did not take at once, each piece under a deadline."""
        sock, unsent = parked.sock, parked.unsent
        while unsent and parked in self._all:
            left = max(len(unsent) - _PIECE, 0)
            with trio.move_on_after(self._limits.send_seconds) as scope:
                while len(unsent) > left:
                    try:
                        await trio.lowlevel.wait_writable(sock)
                        del unsent[: sock.send(memoryview(unsent)[:_PIECE].tobytes())]
                    except (BlockingIOError, InterruptedError):
                        continue
                    except (OSError, trio.ClosedResourceError):
                        self._drop(parked)
                        return
            if scope.cancelled_caught:
                self._cut(parked)
                return
        parked.unsent = None
        if parked.guest is None:
            self._linger(parked)

    def _end(self, parked: Parked, code: int, frame: bytes) -> None:
        """Send the last frame; the connection is read on for a little, so that the frame is not lost to a reset."""
        self._write(parked, frame)
        self._tell_end(parked, code)
        if parked in self._all and parked.unsent is None:
            self._linger(parked)

    def _linger(self, parked: Parked) -> None:
        with suppress(OSError):
            parked.sock.shutdown(socket.SHUT_WR)
        self._schedule(parked, trio.current_time() + self._limits.linger_seconds)

    def _tell_end(self, parked: Parked, code: int) -> None:
        guest, line = parked.guest, parked.line
        parked.guest = parked.line = parked.frames = None
        if guest is not None and line is not None:
            milliseconds = (trio.current_time() - parked.started) * 1000
            self._reporter.request(replace(line, milliseconds=milliseconds, close_code=code))
            guest.left()

    def _cut(self, parked: Parked) -> None:
        parked.cut = True
        self._abort(parked)

    def _abort(self, parked: Parked) -> None:
        with suppress(OSError):
            parked.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._drop(parked)

    def _drop(self, parked: Parked) -> None:
        """Close the connection and forget it."""
        if parked not in self._all:
            return
        self._all.remove(parked)
        self._selector.unregister(parked.sock)
        trio.lowlevel.notify_closing(parked.sock)
        parked.sock.close()
        self._tell_end(parked, CloseReason.ABNORMAL_CLOSURE)
        self._on_left(parked)
