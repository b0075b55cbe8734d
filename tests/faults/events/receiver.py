"""A webhook's receiver that checks every request, and kills the process that sent it at a chosen moment."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import Self

import h11
import trio
from standardwebhooks import Webhook, WebhookVerificationError

from tests.faults.events.books import WEBHOOK, Books
from tests.faults.seats import Seat
from tests.proxies import Trap, Way
from tests.suite.ports import take_port

_REFUSED = 13  # every so many-th event is refused when it comes for the first time


class Moment(Enum):
    """When the sender of a request is killed."""

    REQUEST = "while its request is out"
    ANSWER = "after its 2xx, before that is noted"


class Receiver:
    """Takes events on a loopback port, and refuses some of them once.

    Args:
        books: where arrivals are noted.
        seats: the processes that may have sent a request.
    """

    def __init__(self, books: Books, seats: Sequence[Seat]) -> None:
        self.port = take_port()
        self.secret = ""
        self.refusing = False
        self._books = books
        self._seats = seats
        self._moment: Moment | None = None
        self._struck = trio.Event()
        self._victim: Seat | None = None
        self._trap: Trap | None = None
        self._came = 0

    @property
    def url(self) -> str:
        """Where events are posted."""
        return f"http://127.0.0.1:{self.port}/events"

    async def strike(self, moment: Moment, *, patience: float) -> bool:
        """Kill the sender of the next request at this moment; return whether that came to pass."""
        self._moment, self._struck, self._victim, self._trap = moment, trio.Event(), None, None
        with trio.move_on_after(patience):
            await self._struck.wait()
        self._moment = None
        if self._victim is not None and self._trap is not None:
            self._victim.wires["postgres"].disarm(self._trap)
        if not self._struck.is_set():
            return False
        assert self._victim is not None
        await self._victim.wait_ended()
        return True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve within the block."""
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_tcp, self._serve, self.port)
            yield self
            nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            request = await _read(stream, connection)
            if request is not None:
                await self._answer(stream, connection, *request)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass  # the sender was killed
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(
        self, stream: trio.SocketStream, connection: h11.Connection, headers: dict[str, str], body: bytes
    ) -> None:
        event_id = headers["webhook-id"]
        try:
            Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError as error:
            self._books.wrong.append(f"a signature is wrong: {event_id}: {error}")
        new = not self._books.has_come(WEBHOOK, event_id)
        self._came += new
        refused = self.refusing or (new and self._came % _REFUSED == 0)
        if self._moment is Moment.REQUEST and (seat := self._find_sender(stream)) is not None:
            self._books.note(WEBHOOK, event_id, body, taken=False)
            self._moment, self._victim = None, seat
            seat.kill()
            self._struck.set()
            return
        if self._moment is Moment.ANSWER and not refused and (seat := self._find_sender(stream)) is not None:
            self._moment, self._victim = None, seat
            self._trap = seat.wires["postgres"].trap(b"BEGIN", Way.UP, self._kill_victim, forward=False)
        self._books.note(WEBHOOK, event_id, body, taken=not refused)
        status = 503 if refused else 204
        await stream.send_all(connection.send(h11.Response(status_code=status, headers=[])) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")

    def _kill_victim(self) -> None:
        if self._victim is not None:
            self._victim.kill()
            self._struck.set()

    def _find_sender(self, stream: trio.SocketStream) -> Seat | None:
        """Return the process that has the other end of a connection, if it still lives."""
        port = stream.socket.getpeername()[1]
        inode = _find_inode(port, self.port)
        return next((seat for seat in self._seats if seat.pid and _has_socket(seat.pid, inode)), None)


async def _read(stream: trio.SocketStream, connection: h11.Connection) -> tuple[dict[str, str], bytes] | None:
    headers, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(65_536))
        elif isinstance(event, h11.Request):
            headers = {name.decode(): value.decode() for name, value in event.headers}
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and headers is not None:
            return headers, body
        else:
            return None


def _find_inode(local: int, remote: int) -> str:
    """Return the inode of the socket with these ports on this machine, as the kernel lists it: proc_net_tcp(5)."""
    loopback = f"{socket.htonl(0x7F000001):08X}"
    ends = [f"{loopback}:{port:04X}" for port in (local, remote)]
    for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]:
        columns = line.split()
        if columns[1:3] == ends:
            return columns[9]
    return ""


def _has_socket(pid: int, inode: str) -> bool:
    try:
        return any(fd.readlink().name == f"socket:[{inode}]" for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
