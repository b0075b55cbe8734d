"""What the server makes of websockets: their handshakes, their frames, their silence and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from regsvc.http.server.server import Limits
from tests.http.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    PING,
    PONG,
    TEXT,
    close,
    connect,
    frame,
    handshake,
    read_close,
    read_frame,
)
from tests.http.serving import make_request, serving

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope


async def test_a_websocket_carries_messages_both_ways() -> None:
    async with serving() as served, served.client() as client:
        answer = await connect(client)
        assert (
            answer.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        )  # RFC 6455 section 1.3
        assert answer.headers["x-request-id"]
        await client.send(frame(TEXT, "grüß".encode()))
        assert await read_frame(client) == (TEXT, "grüß".encode())
        await client.send(frame(BINARY, bytes(8192)))
        assert await read_frame(client) == (BINARY, bytes(8192))
        await client.send(close(1000))
        assert await read_close(client) == 1000


async def test_no_extension_is_agreed_to() -> None:
    async with serving() as served, served.client() as client:
        await client.send(handshake(more="\nSec-WebSocket-Extensions: permessage-deflate"))
        assert "sec-websocket-extensions" not in (await client.read_answer()).headers


REFUSED = {
    "an old version": (handshake(version="8"), 426),
    "no version": (handshake().replace(b"Sec-WebSocket-Version: 13\r\n", b""), 426),
    "a version beyond ASCII": (handshake(version="\xe4"), 426),
    "no key": (handshake().replace(b"Sec-WebSocket-Key", b"Key"), 400),
    "two keys": (handshake(more=f"\nSec-WebSocket-Key: {KEY}"), 400),
    "a short key": (handshake(key="c2hvcnQ="), 400),
    "a key that is not base64": (handshake(key="????????????????????????"), 400),
    "a key beyond ASCII": (handshake(key="\xe4" * 24), 400),
    "a subprotocol beyond ASCII": (handshake(more="\nSec-WebSocket-Protocol: \xe4"), 400),
    "a body": (handshake(more="\nContent-Length: 2") + b"hi", 400),
    "a chunked body": (handshake(more="\nTransfer-Encoding: chunked") + b"0\r\n\r\n", 400),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_handshake_that_cannot_be_granted_is_answered_with_a_problem_and_a_close(
    data: bytes, status: int
) -> None:
    async with serving() as served, served.client() as client:
        await client.send(data + frame(TEXT, b"too early"))
        answer = await client.read_answer()
        assert answer.status == answer.problem["status"] == status
        assert answer.headers["x-request-id"] == answer.problem["request_id"]
        assert await client.read_end() == b""
        if status == 426:
            assert answer.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [("/refused", 401, None), ("/closed", 403, "websocket_refused"), ("/none", 404, None)],
)
async def test_a_websocket_that_the_application_refuses_is_answered_and_closed(
    path: str, status: int, code: str | None
) -> None:
    async with serving() as served, served.client() as client:
        await client.send(handshake(path))
        answer = await client.read_answer()
        assert await client.read_end() == b""
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert code is None or answer.problem["code"] == code
    assert [(line.kind, line.status, line.close_code) for line in served.requests] == [
        ("websocket", status, None)
    ]


@pytest.mark.parametrize("head", ["Upgrade: \xe4", "Connection: \xe4, upgrade", "Upgrade: websocket, \xe4"])
async def test_an_upgrade_beyond_ascii_is_no_websocket(head: str) -> None:
    async with serving() as served, served.client() as client:
        await client.send(make_request(f"GET / HTTP/1.1\nSec-WebSocket-Key: {KEY}\n{head}"))
        assert (await client.read_answer()).status == 200


async def test_http_1_0_cannot_ask_for_a_websocket() -> None:
    async with serving() as served, served.client() as client:
        await client.send(handshake("/").replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert (await client.read_answer()).status == 200


async def test_frames_that_come_before_the_websocket_is_accepted_wait() -> None:
    async with serving() as served, served.client() as client:
        await client.send(handshake("/late") + frame(TEXT, b"ear"))
        await served.happenings.wait_for("late")
        await client.send(frame(TEXT, b"ly")[:3])
        await client.send(frame(TEXT, b"ly")[3:])
        served.happenings.note("release")
        assert (await client.read_answer()).status == 101
        assert await read_frame(client) == (TEXT, b"ear")
        assert await read_close(client) == 4000


async def test_a_client_that_leaves_before_the_websocket_is_accepted_is_forgotten() -> None:
    async with serving() as served:
        async with served.client() as client:
            await client.send(handshake("/late"))
            await served.happenings.wait_for("late")
        await served.wait_until(lambda: served.server.statistics().open == 0)
        assert [(line.kind, line.status) for line in served.requests] == [("websocket", None)]


ENDS = {
    "invalid UTF-8": (frame(TEXT, b"\xff"), 1007),
    "invalid UTF-8 over two frames": (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\xc3"), 1007),
    "half a surrogate pair": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "a long message": (frame(BINARY, bytes(8193)), 1009),
    "a long message in characters of four bytes": (frame(TEXT, "😀".encode() * 2049), 1009),
    "a long message in fragments": (
        frame(BINARY, fin=False)
        + frame(CONTINUATION, bytes(4096), fin=False) * 2
        + frame(CONTINUATION, b"x"),
        1009,
    ),
    "a message that claims to be endless": (frame(BINARY, bytes(9000), length=2**62), 1009),
    "a length of 64 bits with the first set": (frame(BINARY, bytes(100), length=2**63), 1002),
    "a frame that is not masked": (b"\x81\x02hi", 1002),
    "an opcode that does not exist": (frame(0x3), 1002),
    "a control opcode that does not exist": (frame(0xB), 1002),
    "a reserved bit": (frame(0x41, b"x"), 1002),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "a message within a message": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "a long ping": (frame(PING, bytes(126)), 1002),
    "a fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "a close of one byte": (frame(CLOSE, b"x"), 1002),
    "a close with a code that nobody may send": (close(1005), 1002),
    "a close with a code out of range": (close(999), 1002),
    "a close with a reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "a close without a code": (frame(CLOSE), 1000),
    "a close with a code of the client's own": (close(4321), 4321),
}


@pytest.mark.parametrize(("data", "code"), ENDS.values(), ids=ENDS.keys())
async def test_what_is_not_of_the_protocol_ends_a_websocket_with_the_code_for_it(
    data: bytes, code: int
) -> None:
    async with serving() as served, served.client() as client:
        await connect(client)
        await client.send(data + frame(TEXT, b"after the end"))
        assert await read_close(client) == code
        await served.happenings.wait_for("gone")


async def test_a_message_in_fragments_with_a_ping_between_arrives_whole() -> None:
    async with serving() as served, served.client() as client:
        await connect(client)
        await client.send(
            frame(TEXT, b"one \xe2", fin=False)
            + frame(PING, b"?")
            + frame(CONTINUATION, fin=False)
            + frame(CONTINUATION, b"\x82\xac")
        )
        assert await read_frame(client) == (PONG, b"?")
        assert await read_frame(client) == (TEXT, "one €".encode())


async def test_frames_may_arrive_byte_by_byte() -> None:
    async with serving() as served, served.client() as client:
        for byte in handshake() + frame(TEXT, b"slow") + frame(BINARY, bytes(130)):
            await client.send(bytes([byte]))
        assert (await client.read_answer()).status == 101
        assert await read_frame(client) == (TEXT, b"slow")
        assert await read_frame(client) == (BINARY, bytes(130))


async def test_a_flood_that_the_application_does_not_read_ends_and_holds_up_nobody() -> None:
    async with serving(Limits(take_seconds=0.05, linger_seconds=0.05)) as served:
        async with served.client() as client:
            await connect(client, "/deaf")
            await client.send(frame(TEXT, b"x") * 1000)
            assert (await served.ask("GET / HTTP/1.1")).status == 200
            assert await read_close(client) == 1008
        await served.happenings.wait_for("gone")


async def test_a_websocket_that_nobody_reads_is_cut_off() -> None:
    async with serving(Limits(send_seconds=0.05)) as served, served.client() as client:
        await connect(client, "/flood")
        await served.wait_until(lambda: served.server.statistics().open == 0)
        assert served.server.statistics().cut == 1


async def test_a_silent_websocket_is_pinged_and_closed() -> None:
    async with serving(Limits(ping=0.05, silence=0.12)) as served:
        async with served.client() as client:
            await connect(client)
            assert await read_frame(client) == (PING, b"")
            assert await read_frame(client) == (PING, b"")
            assert await read_close(client) == 4408
        await served.happenings.wait_for("gone")


async def test_any_byte_keeps_a_websocket_open() -> None:
    async with serving(Limits(ping=0.02, silence=0.5)) as served, served.client() as client:
        await connect(client)
        started = trio.current_time()
        while trio.current_time() < started + 1:
            assert await read_frame(client) == (PING, b"")
            await client.send(frame(PONG))
        assert served.server.statistics().open == 1


async def test_hanging_up_cancels_the_handler_of_a_websocket() -> None:
    async with serving() as served:
        async with served.client() as client:
            await connect(client)
            await served.happenings.wait_for("open")
        await served.happenings.wait_for("gone")


@pytest.mark.parametrize(("data", "code"), [(b"", 1006), (close(1001), 1001), (frame(TEXT, b"\xff"), 1007)])
async def test_a_websocket_has_one_line_at_its_end(data: bytes, code: int) -> None:
    async with serving() as served:
        async with served.client() as client:
            await connect(client, "/echo?token=secret")
            assert not served.requests
            await client.send(data)
            if data:
                await client.read_end()
        await served.wait_until(lambda: bool(served.requests))
    [line] = served.requests
    assert (line.kind, line.path, line.status, line.close_code) == ("websocket", "/echo", 101, code)
    assert "secret" not in repr(line)


async def test_a_websocket_whose_application_raises_is_closed_with_1011() -> None:
    async def raising(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
        raise ValueError("whatever")

    async with serving(wrap=lambda _: raising) as served, served.client() as client:
        await connect(client)
        assert await read_close(client) == 1011
    assert [line.close_code for line in served.requests] == [1011]
