"""A small application with a handler for each thing that can go wrong between a server and its clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
from quart import Response, request, websocket
from quart_trio import QuartTrio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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


class Application(QuartTrio):
    """The application; what it notes is named after the handler."""

    def __init__(self, happenings: Happenings) -> None:
        super().__init__("tests")
        self.happenings = happenings
        self.config["RESPONSE_TIMEOUT"] = None
        self.add_url_rule("/", view_func=self.state)
        self.add_url_rule("/echo", view_func=self.echo, methods=["POST"])
        self.add_url_rule("/big", view_func=self.big)
        self.add_url_rule("/held", view_func=self.held)
        self.add_url_rule("/hung", view_func=self.hung)
        self.add_url_rule("/trailing", view_func=self.trailing)
        self.add_url_rule("/pieces", view_func=self.pieces)
        self.add_url_rule("/invalid", view_func=self.invalid)
        self.add_url_rule("/nothing", view_func=self.nothing)
        self.add_url_rule("/background", view_func=self.background)
        self.add_websocket("/echo", view_func=self.echo_socket)
        self.add_websocket("/late", view_func=self.late_socket)
        self.add_websocket("/deaf", view_func=self.deaf_socket)
        self.add_websocket("/flood", view_func=self.flood_socket)
        self.add_websocket("/refused", view_func=self.refused_socket)
        self.add_websocket("/closed", view_func=self.closed_socket)

    async def state(self) -> dict[str, Any]:
        """Tell what the application knows of the request."""
        return {
            "request_id": request.scope["state"]["request_id"],
            "host": request.host,
            "query": request.query_string.decode(),
        }

    async def echo(self) -> Response:
        """Send the body back."""
        return Response(await request.get_data(cache=False), content_type="application/octet-stream")

    async def big(self) -> Response:
        """Send more than fits between."""
        self.happenings.note("big")
        return Response(bytes(BIG), content_type="application/octet-stream")

    async def held(self) -> str:
        """Answer after `release` is noted."""
        self.happenings.note("held")
        try:
            await self.happenings.wait_for("release")
        except trio.Cancelled:
            self.happenings.note("cancelled")
            raise
        return "released"

    async def hung(self) -> str:
        """Never answer."""
        self.happenings.note("hung")
        await trio.sleep_forever()
        return ""

    async def trailing(self) -> Response:
        """Send the whole body, and end the answer after `release` is noted."""

        async def body() -> AsyncIterator[bytes]:
            yield b"all"
            await self.happenings.wait_for("release")

        return Response(body(), headers={"Content-Length": "3"})

    async def pieces(self) -> Response:
        """Send a body whose length is not known when it begins."""

        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"

        return Response(body())

    async def invalid(self) -> Response:
        """Answer what is not HTTP."""
        return Response("x", headers={"X-Invalid": "\x00"})

    async def nothing(self) -> tuple[str, int]:
        """Answer without content."""
        return "", 204

    async def background(self) -> str:
        """Note something after the answer."""
        self.add_background_task(self._note_background)
        return "started"

    async def _note_background(self) -> None:
        self.happenings.note("background")

    async def echo_socket(self) -> None:
        """Send every message back."""
        await websocket.accept()
        self.happenings.note("open")
        try:
            while True:
                await websocket.send(await websocket.receive() or b"")  # Quart makes None of b""
        except trio.Cancelled:
            self.happenings.note("gone")
            raise

    async def late_socket(self) -> None:
        """Accept after `release` is noted."""
        self.happenings.note("late")
        await self.happenings.wait_for("release")
        await websocket.accept()
        await websocket.send(await websocket.receive() or b"")
        await websocket.close(4000, "enough")

    async def deaf_socket(self) -> None:
        """Never read."""
        await websocket.accept()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.happenings.note("gone")
            raise

    async def flood_socket(self) -> None:
        """Never stop sending."""
        await websocket.accept()
        while True:
            self.happenings.note("flood")
            await websocket.send(bytes(65_536))

    async def refused_socket(self) -> tuple[dict[str, str], int]:
        """Answer instead of accepting."""
        return {"reason": "no"}, 401

    async def closed_socket(self) -> None:
        """Close instead of accepting."""
        await websocket.close(4000)
