"""What quiet websockets need of RFC 6455: frames to write, and two questions about bytes that were read.

Everything else that a client sends is wsproto's to read.
"""

from __future__ import annotations

PONG = 0x8A
_TEXT, _CLOSE = 0x81, 0x88
_SHORT = 126
_MASKED = 0x80
PING_FRAME = b"\x89\x00"


def text_frame(text: str) -> bytes:
    """Return a whole message as one frame."""
    return _frame(_TEXT, text.encode())


def close_frame(code: int, reason: str = "") -> bytes:
    """Return the frame that ends a websocket."""
    return _frame(_CLOSE, code.to_bytes(2, "big") + reason.encode())


def is_pong(data: bytes) -> bool:
    """Return whether bytes are exactly one pong of a client: nearly all that a waiting one sends."""
    return len(data) > 1 and data[0] == PONG and data[1] & _MASKED != 0 and len(data) == 6 + (data[1] & 0x7F)


def is_complete(data: bytes) -> bool:
    """Return whether bytes that a client sent end with a frame, and that with a message: nothing is to come."""
    at, open_message = 0, False
    while at < len(data):
        if len(data) < at + 2:
            return False
        opcode, length = data[at] & 0x0F, data[at + 1] & 0x7F
        wide = {_SHORT: 2, _SHORT + 1: 8}.get(length, 0)
        if wide:
            length = int.from_bytes(data[at + 2 : at + 2 + wide], "big")
        if opcode < 8:  # noqa: PLR2004 - control frames begin here, and are never a part of a message
            open_message = not data[at] & 0x80
        at += 2 + wide + 4 + length
    return at == len(data) and not open_message


def _frame(first: int, content: bytes) -> bytes:
    size = len(content)
    if size < _SHORT:
        return bytes((first, size)) + content
    return bytes((first, _SHORT)) + size.to_bytes(2, "big") + content
