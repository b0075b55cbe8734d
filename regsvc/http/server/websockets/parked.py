"""One websocket that waits without a task, and whose it is."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from wsproto.connection import Connection as Frames

    from regsvc.http.server.events import RequestLine
    from regsvc.http.server.peers import Network
    from regsvc.http.server.websockets.parking import Parking


class Guest(Protocol):
    """Whose websocket is parked."""

    def settle(self, parked: Parked, parking: Parking) -> None:
        """Take note of the place."""

    def left(self) -> None:
        """Take note that nothing more can be sent. It is called once, also if the guest never settled."""


class Parked:
    """One websocket.

    Args:
        sock: its connection, not blocking.
        guest: whose it is.
        line: of the request; its end is told with it.

    Attributes:
        peer: counted for it.
        cut: it was ended because the client took nothing for too long.
    """

    __slots__ = (
        "cut",
        "due",
        "frames",
        "guest",
        "heard",
        "line",
        "peer",
        "size",
        "sock",
        "started",
        "unsent",
    )

    def __init__(self, sock: socket.socket, guest: Guest, line: RequestLine, started: float) -> None:
        self.sock = sock
        self.guest: Guest | None = guest
        self.line: RequestLine | None = line
        self.started = started
        self.heard = trio.current_time()
        self.due = 0.0  # of its newest entry on the clock
        self.frames: Frames | None = None  # of a client that sends more than pongs
        self.size = 0  # of the message that is coming
        self.unsent: bytearray | None = None
        self.peer: Network | None = None
        self.cut = False
