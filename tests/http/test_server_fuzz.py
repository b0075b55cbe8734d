"""No bytes on any connection end the server or its listener.

`REGSVC_TEST_FUZZ` is how many connections are made (3,000), `REGSVC_TEST_SEED` what they send.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from regsvc.http.events import Listening
from regsvc.http.server import Limits
from tests.http.application import DEADLINE
from tests.http.fuzzing import make_conversation
from tests.http.serving import serving

if TYPE_CHECKING:
    from tests.http.fuzzing import Conversation
    from tests.http.serving import Served

COUNT = int(os.environ.get("REGSVC_TEST_FUZZ", "3000"))
SEED = int(os.environ.get("REGSVC_TEST_SEED", "20260401"))
AT_A_TIME = 64
IMPATIENT = Limits(
    header_seconds=0.1,
    body_seconds=0.1,
    keep_alive=0.1,
    send_seconds=0.5,
    linger_seconds=0.1,
    ping=0.05,
    silence=0.1,
    take_seconds=0.05,
)
RESET = struct.pack("ii", 1, 0)


@pytest.mark.timeout(120 + COUNT // 20)
async def test_nothing_that_clients_send_ends_the_server_or_makes_it_fail() -> None:
    random = Random(SEED)
    statuses: set[int] = set()
    async with serving(IMPATIENT) as served:
        served.happenings.note("release")
        places = trio.Semaphore(AT_A_TIME)
        async with trio.open_nursery() as nursery:
            for _ in range(COUNT):
                await places.acquire()
                nursery.start_soon(_hold, served, make_conversation(random), places, statuses)
        await served.wait_until(lambda: served.server.statistics().open == 0)
        assert (await served.ask("GET / HTTP/1.1")).status == 200
        assert served.server.statistics().caught == 0
        assert [type(event) for event in served.events] == [Listening]
    assert {101, 200, 400, 404, 405, 408, 413, 417, 426, 431, 501, 505} <= statuses
    assert 500 not in statuses | {line.status for line in served.requests}


async def _hold(
    served: Served, conversation: Conversation, places: trio.Semaphore, statuses: set[int]
) -> None:
    stream = await trio.open_tcp_stream(*served.address)
    try:
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                if not conversation.deaf:
                    nursery.start_soon(_listen, stream, statuses)
                await _speak(stream, conversation)
                if conversation.ending != "wait":
                    nursery.cancel_scope.cancel()
            if conversation.ending == "half-close":
                await _listen(stream, statuses)
    finally:
        await trio.aclose_forcefully(stream)
        places.release()


async def _speak(stream: trio.SocketStream, conversation: Conversation) -> None:
    try:
        for piece in conversation.pieces:
            await stream.send_all(piece)
            await trio.lowlevel.checkpoint()
        if conversation.ending == "half-close":
            await stream.send_eof()
        elif conversation.ending == "reset":
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    except trio.BrokenResourceError:
        pass  # the server had enough


async def _listen(stream: trio.SocketStream, statuses: set[int]) -> None:
    received = b""
    try:
        async for data in stream:
            received += data
    except trio.BrokenResourceError:
        pass  # the server had enough
    statuses.update(int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received))
