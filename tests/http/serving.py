"""The real server around a small application of the tests' own, and clients that speak to it byte by byte."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
from quart import Response, request, websocket
from quart_trio import QuartTrio

from regsvc.http.events import ConnectionFailed, Event, RequestLine
from regsvc.http.server import Limits, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

DEADLINE = 10.0  # seconds for anything that is waited for
BIG = 20_000_000  # more than all buffers between server and client hold


@dataclass
class Happenings:
    """What tests wait for, counted as it happens."""

    counts: dict[str, int] = field(default_factory=dict)
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def note(self, name: str) -> None:
        """Note that something happened."""
        self.counts[name] = self.counts.get(name, 0) + 1
        self.changed.unpark_all()

    async def wait_for(self, name: str, times: int = 1) -> None:
        """Wait until something happened so often."""
        with trio.fail_after(DEADLINE):
            while self.counts.get(name, 0) < times:
                await self.changed.park()


def make_app(happenings: Happenings) -> QuartTrio:
    """Return an application with a handler for each thing that can go wrong."""
    app = QuartTrio("tests")
    app.config["RESPONSE_TIMEOUT"] = None

    @app.get("/")
    async def _index() -> dict[str, Any]:
        state = request.scope["state"]
        return {
            "request_id": state["request_id"],
            "host": request.host,
            "query": request.query_string.decode(),
        }

    @app.post("/echo")
    async def _echo() -> Response:
        return Response(await request.get_data(cache=False), content_type="application/octet-stream")

    @app.get("/big")
    async def _big() -> Response:
        happenings.note("big")
        return Response(bytes(BIG), content_type="application/octet-stream")

    @app.get("/held")
    async def _held() -> str:
        happenings.note("held")
        try:
            await happenings.wait_for("release")
        except trio.Cancelled:
            happenings.note("cancelled")
            raise
        return "released"

    @app.get("/hung")
    async def _hung() -> str:
        happenings.note("hung")
        await trio.sleep_forever()
        return ""

    @app.get("/invalid")
    async def _invalid() -> Response:
        return Response("x", headers={"X-Invalid": "\x00"})

    @app.get("/background")
    async def _background() -> str:
        app.add_background_task(_note_background)
        return "started"

    async def _note_background() -> None:
        happenings.note("background")

    @app.websocket("/echo")
    async def _echo_socket() -> None:
        await websocket.accept()
        happenings.note("open")
        try:
            while True:
                await websocket.send(await websocket.receive() or b"")  # Quart makes None of b""
        except trio.Cancelled:
            happenings.note("gone")
            raise

    @app.websocket("/late")
    async def _late_socket() -> None:
        happenings.note("late")
        await happenings.wait_for("release")
        await websocket.accept()
        await websocket.send(await websocket.receive() or b"")  # Quart makes None of b""
        await websocket.close(4000, "enough")

    @app.websocket("/deaf")
    async def _deaf_socket() -> None:
        await websocket.accept()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            happenings.note("gone")
            raise

    @app.websocket("/flood")
    async def _flood_socket() -> None:
        await websocket.accept()
        while True:
            happenings.note("flood")
            await websocket.send(bytes(65_536))

    @app.websocket("/refused")
    async def _refused_socket() -> tuple[dict[str, str], int]:
        return {"reason": "no"}, 401

    @app.websocket("/closed")
    async def _closed_socket() -> None:
        await websocket.close(4000)

    return app


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
    ended: trio.Event = field(default_factory=trio.Event)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Open a connection, that is closed at the end of the block."""
        async with await trio.open_tcp_stream(*self.address) as stream:
            yield Client(stream)

    async def ask(self, head: str, body: bytes = b"") -> Answer:
        """Return the answer to one request on a connection of its own."""
        async with self.client() as client:
            return await client.ask(head, body)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that nobody announces."""
        with trio.fail_after(DEADLINE):
            while not condition():
                await trio.sleep(0.005)

    async def wait_ended(self) -> None:
        """Wait until the server returned."""
        with trio.fail_after(DEADLINE):
            await self.ended.wait()


@asynccontextmanager
async def serving(
    limits: Limits | None = None,
    *,
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
        wrap(make_app(happenings)),
        host=host,
        port=port,
        stopping=stopping,
        limits=limits or Limits(),
        lame_duck=lame_duck,
        grace=grace,
        on_request=on_request or requests.append,
        on_event=events.append,
    )

    async def run(task_status: trio.TaskStatus[list[tuple[str, int]]]) -> None:
        try:
            await server.serve(task_status=task_status)
        finally:
            served.ended.set()

    served = Served(server, (host, port), stopping, happenings, requests, events)
    async with trio.open_nursery() as nursery:
        [served.address] = await nursery.start(run)
        yield served
        stopping.set()
    failures = [event for event in events if isinstance(event, ConnectionFailed)]
    assert may_fail or not failures
    assert server.statistics().open == 0
