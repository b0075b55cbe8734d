"""The real server around a small application of the tests' own, and clients that speak to it byte by byte."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from regsvc.http.server.events import ConnectionFailed, Event, RequestLine
from regsvc.http.server.peers import LOOPBACK, Network
from regsvc.http.server.server import Limits, Server
from tests.http.application import DEADLINE, Application, Happenings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence


@dataclass
class Answer:
    """One answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The body, that has to be a problem."""
        assert self.headers["content-type"] == "application/problem+json"
        problem = json.loads(self.body)
        assert isinstance(problem, dict)
        return problem


class Client:
    """One connection to the server, from the outside."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.received = b""

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        with trio.fail_after(DEADLINE):
            await self.stream.send_all(data)

    async def read(self, size: int) -> bytes:
        """Return exactly so many bytes."""
        with trio.fail_after(DEADLINE):
            while len(self.received) < size:
                data = await self.stream.receive_some(65_536)
                assert data, f"the server closed after {self.received!r}"
                self.received += data
        head, self.received = self.received[:size], self.received[size:]
        return head

    async def read_answer(self, *, with_body: bool = True) -> Answer:
        """Return the next answer."""
        while b"\r\n\r\n" not in self.received:
            self.received = await self.read(len(self.received) + 1) + self.received
        size = self.received.index(b"\r\n\r\n") + 4
        status, *lines = (await self.read(size)).decode("ascii").split("\r\n")[:-2]
        fields = [line.split(":", 1) for line in lines]
        headers = {name.lower(): value.strip() for name, value in fields}
        body = await self.read(int(headers.get("content-length", 0)) if with_body else 0)
        return Answer(int(status.split(" ")[1]), headers, body)

    async def ask(self, head: str, body: bytes = b"") -> Answer:
        """Send a request, given by its lines, and return the answer."""
        await self.send(make_request(head, body))
        return await self.read_answer(with_body=not head.startswith("HEAD"))

    async def read_end(self) -> bytes:
        """Return what comes until the server closes; a reset is an error."""
        with trio.fail_after(DEADLINE):
            async for data in self.stream:
                self.received += data
        rest, self.received = self.received, b""
        return rest


def make_request(head: str, body: bytes = b"") -> bytes:
    """Return a request from its lines, with a Host if it names none."""
    host = "" if "Host:" in head else "\r\nHost: test"
    return (head.replace("\n", "\r\n") + host + "\r\n\r\n").encode("latin-1") + body


@dataclass
class Served:
    """A running server and what it told."""

    server: Server
    address: tuple[str, int]
    stopping: trio.Event
    happenings: Happenings
    requests: list[RequestLine]
    events: list[Event]
    cancel_scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)

    @asynccontextmanager
    async def client(self, local_address: str | None = None) -> AsyncIterator[Client]:
        """Open a connection, from this address if one is given, that is closed at the end of the block."""
        async with await trio.open_tcp_stream(*self.address, local_address=local_address) as stream:
            yield Client(stream)

    async def ask(self, head: str, body: bytes = b"") -> Answer:
        """Return the answer to one request on a connection of its own."""
        async with self.client() as client:
            return await client.ask(head, body)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that nobody announces."""
        with trio.fail_after(DEADLINE):
            while not condition():  # noqa: ASYNC110 - see above
                await trio.sleep(0.005)

    async def wait_ended(self) -> None:
        """Wait until the server returned."""
        with trio.fail_after(DEADLINE):
            await self.ended.wait()


@asynccontextmanager
async def serving(
    limits: Limits | None = None,
    *,
    spared: Sequence[Network] = LOOPBACK,
    host: str = "127.0.0.1",
    port: int = 0,
    lame_duck: float = 0.0,
    grace: float = 2.0,
    may_fail: bool = False,
    on_request: Callable[[RequestLine], None] | None = None,
    wrap: Callable[[Any], Callable[..., Awaitable[None]]] = lambda app: app,
) -> AsyncIterator[Served]:
    """Run the server as long as the block lasts; no error may have reached the barrier around connections."""
    happenings, stopping = Happenings(), trio.Event()
    requests: list[RequestLine] = []
    events: list[Event] = []
    server = Server(
        wrap(Application(happenings)),
        hosts=(host,),
        port=port,
        stopping=stopping,
        limits=limits or Limits(),
        spared=spared,
        lame_duck=lame_duck,
        grace=grace,
        on_request=on_request or requests.append,
        on_event=events.append,
    )

    async def run(task_status: trio.TaskStatus[list[tuple[str, int]]]) -> None:
        with served.cancel_scope:
            await server.serve(task_status=task_status)
        served.ended.set()

    served = Served(server, (host, port), stopping, happenings, requests, events)
    async with trio.open_nursery() as nursery:
        [served.address] = await nursery.start(run)
        yield served
        stopping.set()
    failures = [event for event in events if isinstance(event, ConnectionFailed)]
    assert may_fail or not failures
    assert server.statistics().open == 0
