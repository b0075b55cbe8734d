"""Post to another service's URL: to a checked address, without redirects, within a time and a size."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore2
import trio

from regsvc.webhooks.networks import Network, may_reach

MAX_ANSWER: Final = 64 * 1024
"""Octets of an answer that are read."""
_CONNECT_EACH = 5.0  # seconds for one address of several
_MOST_ADDRESSES = 4  # that are tried


class UnreachableError(Exception):
    """A request brought no answer. The text says why, in a word or a few."""


@dataclass(frozen=True)
class Reply:
    """An answer.

    Args:
        status: of HTTP.
        body: at most `MAX_ANSWER` octets of it.
    """

    status: int
    body: bytes

    @property
    def taken(self) -> bool:
        """Whether the receiver took the request."""
        return 200 <= self.status <= 299  # noqa: PLR2004 - RFC 9110, section 15.3


def check_url(text: str) -> str:
    """Return a URL that requests may be posted to, without its fragment.

    Raises:
        ValueError: it is none, or has a user or password in it.
    """
    if len(text) > 2000 or re.search(r"[^\x21-\x7e]", text):  # noqa: PLR2004 - longer than any that works everywhere
        raise ValueError("has to be an http:// or https:// URL of at most 2000 ASCII characters")
    parts = urlsplit(text)
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("has an invalid port") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("has to be an http:// or https:// URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user or password")
    return parts._replace(fragment="").geturl()


async def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    allowed: tuple[Network, ...],
    seconds: float,
    anywhere: bool = False,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Post once and return the answer, whatever its status.

    Args:
        url: as `check_url` returns it.
        headers: of the request, with its content type.
        body: of the request.
        allowed: networks that may be reached although they are private, and without encryption.
        seconds: for everything.
        anywhere: the URL is the operator's own setting, so that every address may be reached.
        tls: checks the certificate; None uses the system's authorities.

    Raises:
        UnreachableError: no answer: refused, lost, too slow.
    """
    plain = urlsplit(url).scheme == "http"
    backend = _CheckedBackend(allowed, plain=plain, anywhere=anywhere)
    try:
        with trio.fail_after(seconds):
            async with (
                httpcore2.AsyncConnectionPool(
                    ssl_context=tls or _system_authorities(),
                    max_connections=1,
                    max_keepalive_connections=0,
                    network_backend=backend,
                ) as pool,
                pool.stream(
                    "POST",
                    url,
                    headers={**dict[bytes | str, bytes | str](headers.items()), "User-Agent": "regsvc"},
                    content=body,
                ) as response,
            ):
                return Reply(response.status, await _read(response))
    except (httpcore2.TimeoutException, trio.TooSlowError):
        raise UnreachableError("timeout") from None
    except httpcore2.ConnectError as error:
        raise UnreachableError(_explain(error)) from error
    except httpcore2.NetworkError as error:
        raise UnreachableError("disconnected") from error
    except (httpcore2.ProtocolError, httpcore2.UnsupportedProtocol) as error:
        raise UnreachableError("protocol error") from error


async def _read(response: httpcore2.Response) -> bytes:
    """Return the body up to `MAX_ANSWER`. One that is cut short says no less than its status."""
    body = bytearray()
    try:
        async with aclosing(response.aiter_stream()) as stream:
            async for octets in stream:
                body += octets
                if len(body) >= MAX_ANSWER:
                    break
    except (httpcore2.NetworkError, httpcore2.ProtocolError):
        pass
    return bytes(body[:MAX_ANSWER])


class _CheckedBackend(httpcore2.AsyncNetworkBackend):
    """Resolves a name, checks what came, and connects to that: the name is not resolved again."""

    def __init__(self, allowed: tuple[Network, ...], *, plain: bool, anywhere: bool) -> None:
        self._allowed = allowed
        self._plain = plain
        self._anywhere = anywhere
        self._inner = httpcore2.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        del timeout
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore2.ConnectError("name not found") from error
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        usable = [
            address
            for address in addresses
            if self._anywhere or may_reach(address, allowed=self._allowed, plain=self._plain)
        ]
        if not usable:
            raise httpcore2.ConnectError("address not allowed")
        failure: Exception = httpcore2.ConnectError("connection refused")
        for address in usable[:_MOST_ADDRESSES]:
            try:
                return await self._inner.connect_tcp(
                    address, port, _CONNECT_EACH, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        del path, timeout, socket_options
        raise httpcore2.ConnectError("address not allowed")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


def _explain(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"certificate refused: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        cause = cause.__cause__ or cause.__context__
    text = str(error)
    return text if text in {"address not allowed", "name not found"} else "connection refused"


@cache
def _system_authorities() -> ssl.SSLContext:
    return ssl.create_default_context()
