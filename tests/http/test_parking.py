"""Websockets that wait without a task of their own: what the server makes of their frames, silence and end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio

from regsvc.http.server.server import Limits
from regsvc.http.server.websockets.frames import is_complete, text_frame
from regsvc.http.server.websockets.parked import Parked
from regsvc.http.server.websockets.parking import Parking
from regsvc.http.server.websockets.websocket import PARK
from tests.http.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close,
    connect,
    frame,
    read_close,
    read_frame,
)
from tests.http.serving import Served, serving
from tests.http.test_server_websockets import ENDS


@dataclass
class Visitor:
    """Whose websocket is parked, and what it was told."""

    settled: trio.Event = field(default_factory=trio.Event)
    gone: trio.Event = field(default_factory=trio.Event)
    parked: Parked | None = None
    parking: Parking | None = None

    def settle(self, parked: Parked, parking: Parking) -> None:
        """Note the place."""
        self.parked, self.parking = parked, parking
        self.settled.set()

    def left(self) -> None:
        """Note the end."""
        assert not self.gone.is_set(), "told twice"
        self.gone.set()

    def send(self, data: bytes) -> None:
        """Send a frame."""
        assert self.parking is not None
        assert self.parked is not None
        self.parking.send(self.parked, data)


@asynccontextmanager
async def parking(limits: Limits | None = None) -> AsyncIterator[tuple[Served, Visitor]]:
    """A server that parks each websocket as soon as it has read one message."""
    visitor = Visitor()

    async def park(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await receive()
        await send({"type": "websocket.accept", "headers": []})
        await receive()
        scope["extensions"][PARK](visitor)

    async with serving(limits, wrap=lambda _: park) as served:
        yield served, visitor


async def settle(client: Any, visitor: Visitor, more: bytes = b"") -> None:
    await connect(client)
    await client.send(frame(TEXT, b"hello") + more)
    with trio.fail_after(10):
        await visitor.settled.wait()


@pytest.mark.parametrize(("data", "code"), ENDS.values(), ids=ENDS.keys())
async def test_what_is_not_of_the_protocol_ends_a_parked_websocket_with_the_code_for_it(
    data: bytes, code: int
) -> None:
    async with parking() as (served, visitor), served.client() as client:
        await settle(client, visitor)
        await client.send(data + frame(TEXT, b"after the end"))
        assert await read_close(client) == code
        with trio.fail_after(10):
            await visitor.gone.wait()
        told = 1005 if data == frame(CLOSE) else code  # RFC 6455 section 7.1.5: there was none
        assert [(line.status, line.close_code) for line in served.requests] == [(101, told)]


async def test_what_came_in_one_piece_with_the_last_message_is_not_lost() -> None:
    async with parking() as (served, visitor), served.client() as client:
        await settle(client, visitor, frame(PING, b"?") + frame(BINARY, b"half", fin=False)[:5])
        assert await read_frame(client) == (PONG, b"?")
        await client.send(
            frame(BINARY, b"half", fin=False)[5:] + frame(CONTINUATION, b"") + frame(PING, b"!") + close(4321)
        )
        assert await read_frame(client) == (PONG, b"!")
        assert await read_close(client) == 4321


async def test_a_ping_right_behind_the_last_message_is_answered() -> None:
    """Nothing more comes, which would have it looked at."""
    async with parking() as (served, visitor), served.client() as client:
        await settle(client, visitor, frame(PING, b"?"))
        assert await read_frame(client) == (PONG, b"?")
        assert visitor.parked is not None
        assert visitor.parked.frames is None, "a parser is kept for nothing"


async def test_frames_to_a_parked_websocket_may_arrive_byte_by_byte() -> None:
    async with parking() as (served, visitor), served.client() as client:
        await settle(client, visitor)
        for byte in frame(PONG) + frame(TEXT, b"slow") + frame(PING, b"now"):
            await client.send(bytes([byte]))
        assert await read_frame(client) == (PONG, b"now")
        visitor.send(text_frame("grüß"))
        visitor.send(text_frame("x" * 200))
        assert await read_frame(client) == (TEXT, "grüß".encode())
        assert await read_frame(client) == (TEXT, b"x" * 200)
        assert served.server.statistics().open == 1


async def test_a_silent_one_is_pinged_and_closed_and_any_byte_keeps_one_open() -> None:
    async with parking(Limits(ping=0.05, silence=0.4)) as (served, visitor), served.client() as client:
        await settle(client, visitor)
        started = trio.current_time()
        while trio.current_time() < started + 1:
            assert await read_frame(client) == (PING, b"")
            await client.send(frame(PONG))
        while (got := await read_frame(client)) == (PING, b""):
            pass
        assert got == (CLOSE, (4408).to_bytes(2, "big"))
        with trio.fail_after(10):
            await visitor.gone.wait()


async def test_one_that_takes_nothing_is_cut_off() -> None:
    async with parking(Limits(send_seconds=0.05)) as (served, visitor), served.client() as client:
        await settle(client, visitor)
        for _ in range(4000):
            if visitor.gone.is_set():
                break
            visitor.send(text_frame("x" * 16_000))
        await served.wait_until(lambda: served.server.statistics().open == 0)
        assert served.server.statistics().cut == 1
        assert visitor.gone.is_set()


async def test_one_that_hangs_up_is_forgotten_with_1006() -> None:
    async with parking() as (served, visitor):
        async with served.client() as client:
            await settle(client, visitor)
            assert not served.requests
        with trio.fail_after(10):
            await visitor.gone.wait()
        await served.wait_until(lambda: served.server.statistics().open == 0)
    assert [line.close_code for line in served.requests] == [1006]


async def test_a_stop_closes_parked_ones_with_1012() -> None:
    async with parking() as (served, visitor), served.client() as client:
        await settle(client, visitor)
        served.stopping.set()
        assert await read_close(client) == 1012
        with trio.fail_after(10):
            await served.ended.wait()


COMPLETE = {
    "nothing": (b"", True),
    "a message": (frame(TEXT, b"x" * 300), True),
    "half a frame": (frame(TEXT, b"x" * 300)[:-1], False),
    "one byte": (b"\x81", False),
    "half a message": (frame(TEXT, b"x", fin=False), False),
    "half a message and a ping": (frame(TEXT, b"x", fin=False) + frame(PING), False),
    "a message in two frames": (frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y"), True),
}


@pytest.mark.parametrize(("data", "complete"), COMPLETE.values(), ids=COMPLETE.keys())
def test_whether_more_has_to_come(data: bytes, complete: bool) -> None:  # noqa: FBT001 - by position
    assert is_complete(data) is complete
