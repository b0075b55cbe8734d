"""Websocket frames as a client sends and reads them (RFC 6455 section 5), broken ones included."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tests.http.serving import Answer, make_request

if TYPE_CHECKING:
    from tests.http.serving import Client

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(path: str = "/echo", *, version: str = "13", key: str = KEY, more: str = "") -> bytes:
    """Return a request for a websocket."""
    return make_request(
        f"GET {path} HTTP/1.1\nConnection: keep-alive, Upgrade\nUpgrade: websocket\n"
        f"Sec-WebSocket-Version: {version}\nSec-WebSocket-Key: {key}{more}"
    )


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, length: int | None = None) -> bytes:
    """Return a frame masked with zeroes; `length` is what it claims to have."""
    size = len(payload) if length is None else length
    head = bytes([opcode | (FIN if fin else 0)])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65_536:
        head += bytes([0x80 | 126]) + struct.pack("!H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", size)
    return head + bytes(4) + payload


def close(code: int) -> bytes:
    """Return a close frame."""
    return frame(CLOSE, struct.pack("!H", code))


async def connect(client: Client, path: str = "/echo") -> Answer:
    """Open a websocket and return the answer to its handshake."""
    await client.send(handshake(path))
    answer = await client.read_answer()
    assert answer.status == 101
    return answer


async def read_frame(client: Client) -> tuple[int, bytes]:
    """Return opcode and payload of the next frame from the server, that is whole and not masked."""
    first, size = await client.read(2)
    assert first & FIN
    if size == 126:
        [size] = struct.unpack("!H", await client.read(2))
    elif size == 127:
        [size] = struct.unpack("!Q", await client.read(8))
    return first & 0x0F, await client.read(size)


async def read_close(client: Client) -> int:
    """Return the code that the server closes with, after which it has to close the connection."""
    opcode, payload = await read_frame(client)
    assert opcode == CLOSE
    assert await client.read_end() == b""
    [code] = struct.unpack("!H", payload[:2])
    return int(code)
