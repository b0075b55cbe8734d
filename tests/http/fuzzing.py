"""What clients might send, from almost right to anything at all; the same for the same seed."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.http.frames import frame, handshake
from tests.http.serving import make_request

if TYPE_CHECKING:
    from random import Random

Ending = Literal["wait", "half-close", "close", "reset"]
_ENDINGS: tuple[Ending, ...] = ("wait", "half-close", "close", "reset")

_METHODS = (b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"PRI", b"get", b"", b"G\x00T", b"PUT" * 99)
_TARGETS = (
    *(
        b"/",
        b"/",
        b"/echo",
        b"/echo",
        b"/held",
        b"/invalid-path",
        b"//test/..//%2e",
        b"/?%ff=%00",
        b"/%ff%00",
    ),
    *(
        b"*",
        b"",
        b"test:80",
        b"http://test/",
        b"http://[/",
        b"http://test",
        b"http:///",
        b"/\xff",
        b"/" * 17_000,
    ),
)
_SOCKETS = ("/echo", "/echo", "/echo", "/deaf", "/late", "/refused", "/closed", "/none", "http://[/")
_VERSIONS = (
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"HTTP/1.9",
    b"HTTP/11",
    b"",
    b"\xff",
)
_HEADERS = b"""Host: test
Host: other
Host:
Connection: close
Connection: upgrade
Connection: \xff
Upgrade: websocket
Upgrade: h2c
Upgrade: \xff\xfe
HTTP2-Settings: AAMAAABkAAQAAP__
Sec-WebSocket-Version: 13
Sec-WebSocket-Version: \xff
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Protocol: a, \xff
Sec-WebSocket-Extensions: permessage-deflate; \xff
Content-Length: 5
Content-Length: 6
Content-Length: -1
Content-Length: 99999999999999999999
Transfer-Encoding: chunked
Transfer-Encoding: gzip
Expect: 100-continue
Expect: \xff
Cookie: \xff=\xfe; a
Content-Type: \xff
Range: bytes=\xff
Name: \x00
\xff: x
 folded
:
Name: %s""".replace(b"%s", b"x" * 9_000).split(b"\n")
_CHUNKS = (
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"0\r\nx: y\r\n\r\n",
    b"-1\r\n",
    b"fffffffffffffffff\r\n",
    b"5;x=\xff\r\nhello\r\n",
)
_H2_FRAMES = (
    *(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01"),
    b"\x00\x00\x05\x01\x05\x00\x00\x00\x01\xff\xff\xff\xff\xff",
)


@dataclass(frozen=True)
class Conversation:
    """What one client sends, in pieces, and how it leaves; a deaf one reads nothing meanwhile."""

    pieces: tuple[bytes, ...]
    ending: Ending
    deaf: bool


def make_conversation(random: Random) -> Conversation:
    """Return the next conversation."""
    makers = (
        _request,
        _requests,
        _websocket,
        _websocket,
        _http2,
        lambda chance: chance.randbytes(chance.randrange(400)),
    )
    data = random.choice(makers)(random)
    if random.random() < 0.5:
        data = _damage(random, data)
    if random.random() < 0.3:
        data = data[: random.randrange(len(data) + 1)]
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice((0, 0, 1, 3, 8))))
    pieces = (data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True))
    return Conversation(
        tuple(piece for piece in pieces if piece), random.choice(_ENDINGS), deaf=random.random() < 0.2
    )


def _request(random: Random) -> bytes:
    likely = random.random() < 0.6
    method, version = (
        (b"POST", b"HTTP/1.1") if likely else (random.choice(_METHODS), random.choice(_VERSIONS))
    )
    headers = [b"Host: test"] if likely else []
    headers += random.choices(_HEADERS, k=random.randrange(6))
    head = (
        b" ".join((method, random.choice(_TARGETS), version))
        + b"\r\n"
        + b"".join(line + b"\r\n" for line in headers)
    )
    body = random.choice(
        (b"", b"hello", b"".join(random.choices(_CHUNKS, k=random.randrange(5))), b"x" * 20_000)
    )
    return head + random.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"")) + body


def _requests(random: Random) -> bytes:
    return b"".join(_request(random) for _ in range(random.randrange(2, 30)))


def _websocket(random: Random) -> bytes:
    more = "".join(
        f"\n{line.decode('latin-1')}" for line in random.choices(_HEADERS, k=random.choice((0, 0, 0, 2)))
    )
    opening = handshake(random.choice(_SOCKETS), version=random.choice(("13",) * 9 + ("\xff",)), more=more)
    return opening + b"".join(_frame(random) for _ in range(random.randrange(20)))


def _frame(random: Random) -> bytes:
    payload = random.randbytes(random.choice((0, 1, 2, 30, 125, 126, 9_000)))
    if random.random() < 0.5:
        payload = payload.hex().encode()[: len(payload)]
    if random.random() < 0.1:
        payload = struct.pack("!H", random.choice((1000, 1005, 1015, 999, 4000, 65_535))) + payload[:100]
    likely = random.choice((0x1, 0x1, 0x2, 0x9, 0xA, 0x8, 0x0))
    data = frame(
        likely if random.random() < 0.9 else random.randrange(128),
        payload,
        fin=random.random() < 0.8,
        length=random.choice((0, 1, 125, 65_535, 2**31, 2**63)) if random.random() < 0.1 else None,
    )
    return data if random.random() < 0.95 else bytes([data[0], data[1] & 0x7F]) + data[2:]


def _http2(random: Random) -> bytes:
    upgrade = make_request(
        "GET / HTTP/1.1\nHost: \xff\nConnection: Upgrade\nUpgrade: h2c\nHTTP2-Settings: %s"
    )
    opening = random.choice((b"", upgrade % b"AAMAAABkAAQAAP__", upgrade % b"\xff"))
    return (
        opening
        + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + b"".join(random.choices(_H2_FRAMES, k=random.randrange(9)))
    )


def _damage(random: Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(random.randrange(1, 6)):
        at = random.randrange(len(damaged) + 1)
        match random.randrange(4):
            case 0:
                damaged[at : at + 1] = random.randbytes(1)
            case 1:
                del damaged[at : at + random.randrange(20)]
            case 2:
                damaged[at:at] = damaged[at : at + random.randrange(200)]
            case _:
                damaged[at:at] = random.choice(
                    (b"\r\n", b"\n", b"\x00", b"\xff", b" ", b"\r\n\r\n", b"\x80" * 9)
                )
    return bytes(damaged)
