"""Certificates and confirmations of Amazon SNS, fetched from SNS alone."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final
from urllib.request import HTTPRedirectHandler, HTTPSHandler, build_opener

import trio

from regsvc.errors import UnavailableError

_SECONDS: Final = 5.0
_MOST_BYTES: Final = 65_536
_KEPT: Final = 16

Fetch = Callable[[str], bytes]
"""Return what an `https` URL answers. Blocks; runs in a thread."""


class SnsUnavailableError(UnavailableError):
    """Amazon SNS cannot be reached to verify this report."""

    code = "sns_unavailable"


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def fetch_https(url: str) -> bytes:
    """Return what a URL answers, without following redirects."""
    opener = build_opener(HTTPSHandler(context=ssl.create_default_context()), _NoRedirects())
    with opener.open(url, timeout=_SECONDS) as response:
        body: bytes = response.read(_MOST_BYTES)
    return body


class Certificates:
    """Signing certificates by URL, each fetched once.

    Args:
        fetch: fetches a URL.
    """

    def __init__(self, fetch: Fetch = fetch_https) -> None:
        self._fetch = fetch
        self._known: dict[str, bytes] = {}
        self._fetching = trio.Lock()

    async def get(self, url: str) -> bytes:
        """Return the certificate of a checked URL.

        Raises:
            SnsUnavailableError: it cannot be fetched.
        """
        if url not in self._known:
            async with self._fetching:
                if url not in self._known:
                    body = await self.call(url)
                    if len(self._known) == _KEPT:
                        self._known.clear()
                    self._known[url] = body
        return self._known[url]

    async def call(self, url: str) -> bytes:
        """Return what a checked URL answers.

        Raises:
            SnsUnavailableError: it does not answer, or with an error.
        """
        try:
            return await trio.to_thread.run_sync(self._fetch, url, abandon_on_cancel=True)
        except OSError as error:
            raise SnsUnavailableError from error
