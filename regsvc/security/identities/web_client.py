"""HTTP to identity providers: short deadlines, small answers, no redirects, no proxies of the environment."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final
from urllib.parse import urlsplit

import trio

from regsvc.security.identities.errors import IdentityRefusedError, ProviderUnavailableError

PATIENCE: Final = 8.0  # seconds for a whole request
MAX_ANSWER: Final = 256 * 1024  # octets
MOST_AT_ONCE: Final = 16  # requests to one provider
_OK: Final = 200
_FAILING: Final = 500
_TOO_MANY: Final = 429


class WebClient:
    """Requests to the servers of one provider.

    Args:
        tls: checks certificates; None uses the system's trusted authorities.
        patience: seconds for a whole request.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, patience: float = PATIENCE) -> None:
        self._tls = tls
        self._patience = patience
        self._places = trio.CapacityLimiter(MOST_AT_ONCE)

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> bytes:
        """Return what is at a URL, as `send`."""
        return (await self.send("GET", url, headers or {}))[1]

    async def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        expected: frozenset[int] = frozenset({_OK}),
    ) -> tuple[int, bytes]:
        """Send one request and return the status and body of its answer.

        Hold no connection to the database meanwhile: a provider may be slow.

        Args:
            method: of the request.
            url: checked by the caller (`is_sound`).
            headers: of the request.
            body: of the request.
            expected: statuses that are no error.

        Raises:
            ProviderUnavailableError: no answer in time, a failing server, or too many requests at once.
            IdentityRefusedError: another status, such as that of a redirect, or too long an answer.
        """
        import httpcore2  # noqa: PLC0415 - only where a provider is used

        sent: dict[bytes | str, bytes | str] = {
            "User-Agent": "regsvc",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            **dict[bytes | str, bytes | str](headers.items()),
        }
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            raise ProviderUnavailableError from None
        received = bytearray()
        try:
            with trio.fail_after(self._patience):
                async with (
                    httpcore2.AsyncConnectionPool(
                        ssl_context=self._context(url), network_backend=httpcore2.TrioBackend()
                    ) as pool,
                    pool.stream(
                        method,
                        url,
                        headers=sent,
                        content=body,
                    ) as response,
                    aclosing(response.aiter_stream()) as stream,
                ):
                    status = response.status
                    async for octets in stream:
                        received += octets
                        if len(received) > MAX_ANSWER:
                            raise IdentityRefusedError("answer too long")
        except (trio.TooSlowError, httpcore2.TimeoutException, httpcore2.NetworkError) as error:
            raise ProviderUnavailableError from error
        except httpcore2.ProtocolError as error:
            raise IdentityRefusedError("not HTTP") from error
        finally:
            self._places.release()
        if status >= _FAILING or status == _TOO_MANY:
            raise ProviderUnavailableError
        if status not in expected:
            raise IdentityRefusedError(f"status {status}")
        return status, bytes(received)

    def _context(self, url: str) -> ssl.SSLContext | None:
        if not url.startswith("https:"):
            return None
        if self._tls is None:
            self._tls = ssl.create_default_context()  # once: it reads all authorities of the machine
        return self._tls


def is_sound(url: object, issuer: str) -> bool:
    """Return whether a URL of a provider's metadata may be used: TLS, as its issuer's, and no tricks."""
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        usable = parts.port != 0
    except ValueError:
        return False
    return (
        usable
        and bool(parts.hostname)
        and parts.scheme in {"https", urlsplit(issuer).scheme}
        and parts.username is None
        and not parts.fragment
    )
