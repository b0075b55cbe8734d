"""A TCP front for the test server's Unix socket, which can be cut or go silent."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Proxy:
    """Forwards 127.0.0.1:`port` to the database `conninfo` names."""

    def __init__(self, conninfo: str) -> None:
        parts = urlsplit(conninfo)
        self._socket = parse_qs(parts.query)["host"][0] + "/.s.PGSQL.5432"
        self._rest = f"postgresql://{parts.username}@{{}}{parts.path}"
        self._forwarding = trio.Event()
        self._forwarding.set()
        self._streams: set[trio.SocketStream] = set()
        self._rewriting: list[tuple[bytes, bytes]] = []
        self.port = 0

    @property
    def open_streams(self) -> int:
        """Tell how many sockets are open on both sides."""
        return len(self._streams)

    def conninfo(self, hosts: str = "127.0.0.1:{port}") -> str:
        """Tell the URI through this proxy, by any name of this machine; `{port}` is filled in."""
        return self._rest.format(hosts.format(port=self.port))

    def fall_silent(self) -> None:
        """Forward nothing from now on, in either direction, and say nothing about it; a black hole."""
        self._forwarding = trio.Event()

    def rewrite(self, pattern: bytes, replacement: bytes) -> None:
        """Forward something else of the same length in place of what matches a pattern, within one piece."""
        self._rewriting.append((pattern, replacement))

    def speak(self) -> None:
        """Forward again, also what was held back."""
        self._forwarding.set()

    async def cut(self) -> None:
        """Close every connection."""
        for stream in list(self._streams):
            await trio.aclose_forcefully(stream)

    def note(self, source: trio.SocketStream, data: bytes) -> None:
        """See what one side sent, before it is forwarded; for those who read along."""

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Listen until cancelled."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._handle, listeners)

    async def _handle(self, client: trio.SocketStream) -> None:
        self._streams.add(client)
        await self._forwarding.wait()
        async with await trio.open_unix_socket(self._socket) as server, trio.open_nursery() as nursery:
            self._streams.add(server)
            nursery.start_soon(self._copy, client, server, nursery.cancel_scope)
            nursery.start_soon(self._copy, server, client, nursery.cancel_scope)
        self._streams -= {client, server}

    async def _copy(
        self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            async for data in source:
                self.note(source, bytes(data))
                await self._forwarding.wait()
                for pattern, replacement in self._rewriting:
                    data = re.sub(pattern, replacement, data)  # noqa: PLW2901 - the piece, as it goes on
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def open_proxy(conninfo: str) -> AsyncIterator[Proxy]:
    """Run a proxy for the block."""
    proxy = Proxy(conninfo)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        yield proxy
        nursery.cancel_scope.cancel()
