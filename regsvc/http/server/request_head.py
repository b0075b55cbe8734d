"""Check the heads of requests before the application sees them."""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING

from regsvc.http.server.refusals import RefusedError

if TYPE_CHECKING:
    import h11

    from regsvc.http.server.limits import Limits

_KEY_BYTES = 16
_MOST_PARAMETERS = 100  # of a query; each costs the parser some microseconds
# Empty segments and those of dots, escaped or not, and escaped slashes, backslashes and NULs.
_CROOKED = re.compile(rb"//|/(?:\.|%2e){1,2}(?:/|$)|%2f|%5c|\\|%00", re.IGNORECASE)
# RFC 3986, 3.2.2 and 3.2.3, without a user.
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
# Headers that say one thing: of two, a proxy may have heeded the other (RFC 9110 section 5.3).
_SINGLE = (b"authorization", b"content-type", b"idempotency-key", b"origin", b"regsvc-handle")


def check_head(request: h11.Request, size: int, limits: Limits) -> None:
    """Refuse a request that h11 accepts and this server does not.

    Args:
        request: as parsed; h11 has seen to syntax, `Host` and contradicting lengths.
        size: of the head in bytes.
        limits: the server's.

    Raises:
        RefusedError: the request is not for the application.
    """
    if request.http_version[:1] != b"1":
        raise RefusedError(505)  # HTTP/2 by prior knowledge ("PRI * HTTP/2.0") too
    if size > limits.header_bytes:
        raise RefusedError(431)
    if (
        not request.method.isupper()
    ):  # methods are case-sensitive (RFC 9110 section 9.1), and ours are in capitals
        raise RefusedError(400)
    _check_target(request.target)
    if not all(_HOST.fullmatch(value) for value in _values(request, b"host")):
        raise RefusedError(400)
    if any(len(_values(request, name)) > 1 for name in _SINGLE):
        raise RefusedError(400)
    lengths = _values(request, b"content-length")
    if _values(request, b"transfer-encoding") and (lengths or request.http_version == b"1.0"):
        raise RefusedError(400)  # may mean two things to two servers (RFC 9112 section 6.1)
    if lengths and int(lengths[0]) > limits.body_bytes:
        raise RefusedError(413)
    # RFC 9110 section 10.1.1; an HTTP/1.0 client cannot expect anything
    expectations = _tokens(request, b"expect")
    if request.http_version != b"1.0" and expectations - {b"100-continue"}:
        raise RefusedError(417)


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


def asks_for_websocket(request: h11.Request) -> bool:
    """Return whether a request asks for a websocket and may have it (RFC 6455 section 4.2.1).

    Any other upgrade, HTTP/2 among them, is ignored, as the standard allows (RFC 9110 section 7.8).

    Raises:
        RefusedError: it asks in a way that cannot be granted.
    """
    if (
        request.method != b"GET"
        or request.http_version == b"1.0"
        or b"upgrade" not in _tokens(request, b"connection")
        or _tokens(request, b"upgrade") != {b"websocket"}
    ):
        return False
    if _values(request, b"sec-websocket-version") != [b"13"]:
        raise RefusedError(426)
    keys = _values(request, b"sec-websocket-key")
    has_body = _values(request, b"transfer-encoding") or _values(request, b"content-length") not in (
        [],
        [b"0"],
    )
    if len(keys) != 1 or not _is_key(keys[0]) or has_body:
        raise RefusedError(400)
    if not all(value.isascii() for value in _values(request, b"sec-websocket-protocol")):
        raise RefusedError(400)
    return True


def headers_for_websocket(request: h11.Request) -> list[tuple[bytes, bytes]]:
    """Return the headers of such a request with one plain upgrade and no extensions: none are offered."""
    rewritten = {b"connection", b"upgrade", b"sec-websocket-extensions"}
    kept = [(name, value) for name, value in request.headers if name not in rewritten]
    return [*kept, (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]


def _is_key(value: bytes) -> bool:
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == _KEY_BYTES
    except ValueError:
        return False


def _values(request: h11.Request, wanted: bytes) -> list[bytes]:
    return [value for name, value in request.headers if name == wanted]


def _tokens(request: h11.Request, wanted: bytes) -> set[bytes]:
    listed = b",".join(_values(request, wanted)).lower().split(b",")
    return {token.strip() for token in listed} - {b""}
