"""Notice clients that hang up while their requests are being answered."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from regsvc.http.server.connection import Connection

SECONDS = 0.1  # between two looks
# Linux tells the end of what a client sends apart from what it sends; elsewhere a look at the next byte has to do.
_EVENTS = getattr(select, "POLLRDHUP", select.POLLIN)


class HangUps:
    """Look at all connections that wait for the application at once, ten times a second.

    A task for each would cost more than most answers. A client that shuts down its side alone counts as gone, too.
    """

    def __init__(self) -> None:
        self._connections: dict[int, Connection] = {}
        self._some = trio.Event()

    def watch(self, connection: Connection) -> None:
        """Look at a connection until `forget`."""
        if not self._connections:
            self._some.set()
        self._connections[connection.wire.descriptor] = connection

    def forget(self, connection: Connection) -> None:
        """Look at it no more."""
        self._connections.pop(connection.wire.descriptor, None)

    async def run(self) -> None:
        """Look for as long as this is not cancelled; nothing is done while no request is in flight."""
        while True:
            if not self._connections:
                self._some = trio.Event()
                await self._some.wait()
            await trio.sleep(SECONDS)
            self._look()

    def _look(self) -> None:
        poll = select.poll()
        for descriptor in self._connections:
            poll.register(descriptor, _EVENTS)
        for descriptor, events in poll.poll(0):
            connection = self._connections[descriptor]
            if events != select.POLLIN or _is_over(connection.wire.sock):
                connection.hang_up()


def _is_over(sock: socket.socket) -> bool:
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
