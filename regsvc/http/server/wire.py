"""The bytes of one connection: read ahead, written under a deadline, and ended in order."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress

import trio

from regsvc.http.server.limits import Limits
from regsvc.http.server.refusals import RefusedError

GONE = (trio.BrokenResourceError, trio.ClosedResourceError)

_PIECE = 16_384  # bytes that are read, or have to be taken, at once
_LINGER_READS = 64
_RESET = struct.pack("ii", 1, 0)


class Wire:
    """What goes over one connection.

    Args:
        sock: not blocking; closed by this.
        limits: the server's.

    Attributes:
        buffer: what was read, and not taken yet.
        gone: nothing reaches the client any more.
        cut: it was ended because the client took nothing for too long.
    """

    def __init__(self, sock: socket.socket, limits: Limits) -> None:
        self.sock = sock
        self.descriptor = sock.fileno()
        self.limits = limits
        self.buffer = bytearray()
        self.gone = self.cut = False

    async def receive(self) -> bool:
        """Read what comes into `buffer`; return False at the end of what the client sends.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection is gone.
        """
        await trio.lowlevel.wait_readable(self.sock)
        try:
            data = self.sock.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            raise trio.BrokenResourceError from error
        self.buffer += data
        return bool(data)

    async def receive_more(self) -> None:
        """Read on within a request.

        Raises:
            RefusedError: the client ended it halfway.
        """
        if not await self.receive():
            raise RefusedError(400)

    async def take(self, size: int) -> bytes:
        """Return so many bytes once they are there."""
        buffer = self.buffer
        while len(buffer) < size:
            await self.receive_more()
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken

    async def take_until(self, end: bytes) -> bytes:
        """Return what comes up to some bytes, and those.

        Raises:
            RefusedError: it is more than a header may be.
        """
        buffer, seen = self.buffer, 0
        while (at := buffer.find(end, seen)) < 0:
            if len(buffer) > self.limits.header_bytes:
                raise RefusedError(431)
            seen = max(len(buffer) - len(end) + 1, 0)
            await self.receive_more()
        return await self.take(at + len(end))

    async def write(self, data: bytes) -> None:
        """Write bytes, at once if the system takes them; a client that takes none for `send_seconds` is cut off.

        A cancellation waits for that long at most: half an answer or half a frame would spoil what follows.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection is gone.
        """
        sent = self._send(data)
        if sent == len(data):
            return
        view = memoryview(data)[sent:]
        with trio.CancelScope(shield=True) as scope:
            while view:
                scope.deadline = trio.current_time() + self.limits.send_seconds
                piece, view = view[:_PIECE], view[_PIECE:]
                while piece:
                    await trio.lowlevel.wait_writable(self.sock)
                    piece = piece[self._send(piece) :]
        if scope.cancelled_caught:
            self.cut = True
            self.abort()
            raise trio.BrokenResourceError

    async def linger(self) -> None:
        """Send FIN and read on for a little: closing at once could lose the answer to a reset."""
        with trio.move_on_after(self.limits.linger_seconds), suppress(OSError, *GONE):
            self.sock.shutdown(socket.SHUT_WR)
            for _ in range(_LINGER_READS):
                self.buffer.clear()
                if not await self.receive():
                    break

    def abort(self) -> None:
        """End the connection with a reset, forgetting what was not sent yet."""
        self.gone = True
        with suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def close(self) -> None:
        """Close the socket; what waits for it is told so."""
        if self.sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self.sock)
            self.sock.close()

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error
