"""The channel between the supervisor and one of its processes: a socket pair that carries JSON, one message a line.

Each end notices the end of the other: the kernel closes the socket of a process that dies, however it does.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import trio

Message = dict[str, Any]

BEAT = 2.0  # seconds between two signs of life of a process
_PATIENCE = 5.0  # seconds that the other end may take to read a message
_PIECE = 65_536


class Channel:
    """One end.

    Args:
        sock: of the pair; closed by `aclose`.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._sending = trio.Lock()

    async def send(self, message: Message) -> None:
        """Send a message. One that does not read is cut off: its process is restarted, or ends.

        What is sent to an end that is gone is dropped: reading tells of that.
        """
        with trio.move_on_after(_PATIENCE) as scope:
            try:
                async with self._sending:
                    await self._stream.send_all(json.dumps(message).encode() + b"\n")
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
        if scope.cancelled_caught:
            await self.aclose()

    async def messages(self) -> AsyncIterator[Message]:
        """Yield what the other end sends, until it is gone."""
        buffer = b""
        while True:
            try:
                data = await self._stream.receive_some(_PIECE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                yield json.loads(line)

    async def aclose(self) -> None:
        """Close this end."""
        await trio.aclose_forcefully(self._stream)
