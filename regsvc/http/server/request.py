"""Read requests strictly, a head by one expression (RFC 9112), and refuse what is not for the application."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from regsvc.http.server.limits import Limits
from regsvc.http.server.refusals import RefusedError
from regsvc.http.server.wire import Wire

_CHUNKING = 16  # times the size of a body, in which the shortest chunks have to send it
_FIRST = ord("!")  # no request begins with a smaller byte

Headers = Sequence[tuple[bytes, bytes]]

# No part can match in two ways, so that no head takes more than one walk.
_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = rb"(?:[\x21-\x7e\x80-\xff]++(?:[ \t]++[\x21-\x7e\x80-\xff]++)*+)?+"
_FIELD = rb"(%b):[ \t]*+(%b)[ \t]*+\r\n" % (_NAME, _VALUE)
_LINE = re.compile(rb"(%b) ([\x21-\x7e]++) HTTP/([0-9])\.([0-9])\r\n" % _NAME)
_FIELDS = re.compile(rb"(?:%b)*+" % _FIELD.replace(b"(", b"(?:").replace(b"(?:?", b"(?"))
_EACH_FIELD = re.compile(_FIELD)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,20}+)[ \t]*+(?:;[^\x00\r\n]*+)?\r\n")
_END = b"\r\n\r\n"
_BARE_NEWLINE = re.compile(rb"(?<!\r)\n")

_KEY_BYTES = 16
_MOST_PARAMETERS = 100  # of a query; each costs the parser some microseconds
_LENGTH_DIGITS = 20
# Empty segments and those of dots, escaped or not, and escaped slashes, backslashes and NULs.
_CROOKED = re.compile(rb"//|/(?:\.|%2e){1,2}(?:/|$)|%2f|%5c|\\|%00", re.IGNORECASE)
# RFC 3986, 3.2.2 and 3.2.3, without a user.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
# Headers that say one thing: of two, a proxy may have heeded the other (RFC 9110 section 5.3).
_SINGLE = frozenset(
    b"authorization content-length content-type host idempotency-key origin regsvc-handle".split()
)


@dataclass(slots=True)
class Head:
    """The head of a request that may reach the application.

    Args:
        method: as it came.
        target: a path, and a query string if there is one.
        version: `1.0` or `1.1`, which stands for every later minor version.
        headers: names in small letters.
        length: of the body in bytes, as announced.
        chunked: the body comes in chunks, and says itself where it ends.
        keeps_alive: the client wants the connection for another request.
        expects: the client waits for `100 Continue` before it sends the body.
        wants_websocket: it asks for one, and may have it.
    """

    method: str
    target: bytes
    version: str
    headers: Headers
    length: int
    chunked: bool
    keeps_alive: bool
    expects: bool
    wants_websocket: bool


def find_line(head: bytes) -> tuple[str, bytes] | None:
    """Return method and target of a request, whatever else is wrong with it; None if they cannot be read."""
    line = _LINE.match(head)
    return None if line is None else (line[1].decode("ascii"), line[2])


def read_head(head: bytes, limits: Limits) -> Head:
    """Read a head.

    Args:
        head: from the request line to the empty line.
        limits: the server's.

    Raises:
        RefusedError: the request is not for the application.
    """
    line = _LINE.match(head)
    if line is None:
        raise RefusedError(400)
    method, target, major, minor = line.groups()
    if major != b"1":
        raise RefusedError(505)  # HTTP/2 by prior knowledge ("PRI * HTTP/2.0") too
    start, end = line.end(), len(head) - 2
    if _FIELDS.fullmatch(head, start, end) is None:
        raise RefusedError(400)
    if not method.isupper():  # methods are case-sensitive (RFC 9110 section 9.1), and ours are in capitals
        raise RefusedError(400)
    _check_target(target)
    headers = [(name.lower(), value) for name, value in _EACH_FIELD.findall(head, start, end)]
    fields = dict(headers)
    if len(fields) < len(headers):
        fields = _join(headers)
    version = "1.0" if minor == b"0" else "1.1"
    return _judge(method.decode("ascii"), target, version, headers=headers, fields=fields, limits=limits)


async def take_head(wire: Wire, scope: trio.CancelScope) -> bytes:
    """Return the next head, from the request line to the empty line.

    What cannot become one is refused before its end: a TLS hello, or lines that end without a carriage return, by
    which servers that take them and proxies that do not see different requests.

    Args:
        wire: to take it from; something is there.
        scope: whose deadline becomes that of the header, if it is not all there.

    Raises:
        RefusedError: none will come.
    """
    buffer, most = wire.buffer, wire.limits.header_bytes
    end = buffer.find(_END) if buffer[0] >= _FIRST else -1
    if end < 0:
        scope.deadline = trio.current_time() + wire.limits.header_seconds
        await _skip_empty_line(wire)
        seen = 0
        while (end := buffer.find(_END, seen)) < 0:
            if buffer[0] < _FIRST or _BARE_NEWLINE.search(buffer, seen):
                raise RefusedError(400)
            if len(buffer) > most:
                raise RefusedError(431)
            seen = max(len(buffer) - len(_END) + 1, 0)
            await wire.receive_more()
    if end + len(_END) > most:
        raise RefusedError(431)
    return await wire.take(end + len(_END))


async def read_body(wire: Wire, head: Head, scope: trio.CancelScope) -> bytes:
    """Return the body of a request.

    Args:
        wire: to take it from.
        head: of the request, that has a body.
        scope: whose deadline becomes that of the body.

    Raises:
        RefusedError: it is none, or too large.
    """
    scope.deadline = trio.current_time() + wire.limits.body_seconds
    if head.expects and not wire.buffer:
        await wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not head.chunked:
        return await wire.take(head.length)
    most, body, taken, last = wire.limits.most_of_body(head.target), bytearray(), 0, False
    while not last:
        line = await wire.take_until(b"\n")
        chunk = _CHUNK.fullmatch(line)
        if chunk is None:
            raise RefusedError(400)
        size = int(chunk[1], 16)
        taken += len(line) + size
        if len(body) + size > most or taken > _CHUNKING * most:
            raise RefusedError(413)
        last = size == 0
        data = await wire.take(size + 2) if size else b"\r\n"
        if not data.endswith(b"\r\n"):
            raise RefusedError(400)
        body += data[:-2]
    while (line := await wire.take_until(b"\n")) != b"\r\n":  # trailers, which are ignored
        taken += len(line)
        if taken > _CHUNKING * most:
            raise RefusedError(413)
        if _EACH_FIELD.fullmatch(line) is None:
            raise RefusedError(400)
    return bytes(body)


async def _skip_empty_line(wire: Wire) -> None:
    """Skip one empty line before a request (RFC 9112 section 2.2)."""
    while wire.buffer == b"\r":
        await wire.receive_more()
    if wire.buffer.startswith(b"\r\n"):
        del wire.buffer[:2]
    while not wire.buffer:
        await wire.receive_more()


def _check_target(target: bytes) -> None:
    """Refuse a target that is no path, or that a proxy in front may read otherwise.

    One that names a host could go elsewhere than `Host` says, and a fragment is where links carry tokens.

    Raises:
        RefusedError: it is not for the application.
    """
    path, _, query = target.partition(b"?")
    if not target.startswith(b"/") or b"#" in target or _CROOKED.search(path):
        raise RefusedError(400)
    if query.count(b"&") > _MOST_PARAMETERS:
        raise RefusedError(400)


def _judge(
    method: str,
    target: bytes,
    version: str,
    *,
    headers: Headers,
    fields: dict[bytes, bytes],
    limits: Limits,
) -> Head:
    host = fields.get(b"host")
    if (host is None and version != "1.0") or (host and _HOST.fullmatch(host) is None):
        raise RefusedError(400)
    coding, length = fields.get(b"transfer-encoding"), _read_length(fields.get(b"content-length"))
    if coding is not None:
        if length is not None or version == "1.0":
            raise RefusedError(400)  # may mean two things to two servers (RFC 9112 section 6.1)
        if coding.lower() != b"chunked":
            raise RefusedError(501)
    if length is not None and length > limits.most_of_body(target):
        raise RefusedError(413)
    # RFC 9110 section 10.1.1; an HTTP/1.0 client cannot expect anything
    expectations = _tokens(fields, b"expect") if version != "1.0" else frozenset()
    if expectations - {b"100-continue"}:
        raise RefusedError(417)
    options = _tokens(fields, b"connection")
    wants_websocket = b"upgrade" in options and method == "GET" and version != "1.0" and _may_upgrade(fields)
    if wants_websocket and (length or coding is not None):
        raise RefusedError(400)
    return Head(
        method,
        target,
        version,
        headers,
        length=length or 0,
        chunked=coding is not None,
        keeps_alive=b"close" not in options and version != "1.0",
        expects=bool(expectations),
        wants_websocket=wants_websocket,
    )


def _may_upgrade(fields: dict[bytes, bytes]) -> bool:
    """Return whether an upgrade is to a websocket that can be granted (RFC 6455 section 4.2.1).

    Any other upgrade, HTTP/2 among them, is ignored, as the standard allows (RFC 9110 section 7.8).

    Raises:
        RefusedError: it asks in a way that cannot be granted.
    """
    if _tokens(fields, b"upgrade") != {b"websocket"}:
        return False
    if fields.get(b"sec-websocket-version") != b"13":
        raise RefusedError(426)
    if not _is_key(fields.get(b"sec-websocket-key", b"")):
        raise RefusedError(400)
    if not fields.get(b"sec-websocket-protocol", b"").isascii():
        raise RefusedError(400)
    return True


def _join(headers: Headers) -> dict[bytes, bytes]:
    """Return each header once, with the values of those that may be lists (RFC 9110 section 5.3)."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in fields:
            fields[name] = value
        elif name in _SINGLE:
            raise RefusedError(400)
        else:
            fields[name] += b", " + value
    return fields


def _read_length(value: bytes | None) -> int | None:
    if value is None:
        return None
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise RefusedError(400)
    return int(value)


def _is_key(value: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == _KEY_BYTES
    except ValueError:
        return False


def _tokens(fields: dict[bytes, bytes], name: bytes) -> frozenset[bytes]:
    value = fields.get(name)
    if value is None:
        return frozenset()
    return frozenset(token.strip() for token in value.lower().split(b",")) - {b""}
