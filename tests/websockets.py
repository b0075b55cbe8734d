"""Websocket clients for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio_websocket import WebSocketConnection, open_websocket_url


@asynccontextmanager
async def open_socket(url: str, **options: Any) -> AsyncIterator[WebSocketConnection]:
    """Open a websocket and leave nothing of it behind: trio-websocket keeps a socket that the peer closed first."""
    async with open_websocket_url(url, **options) as socket:
        try:
            yield socket
        finally:
            with trio.move_on_after(2, shield=True):
                await socket.aclose()
                await socket._stream.aclose()
