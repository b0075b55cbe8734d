"""What programs send to PostgreSQL, seen on the wire: every round trip by the connection that makes it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from tests.postgres.proxies import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SYNC, _QUERY, _PARSE = b"S", b"Q", b"P"


class Wire(Proxy):
    """A proxy that reads along.

    `seen` has an entry for every round trip of every connection: the connection's application name, and the texts of
    what it sent with it. A statement that is already prepared has none.
    """

    def __init__(self, conninfo: str) -> None:
        super().__init__(conninfo)
        self.seen: list[tuple[str, list[str]]] = []
        self._buffers: dict[trio.SocketStream, bytearray] = {}
        self._names: dict[trio.SocketStream, str] = {}
        self._texts: dict[trio.SocketStream, list[str]] = {}

    def take(self, name: str) -> list[list[str]]:
        """Return the round trips of connections of that name, and forget everything."""
        found = [texts for whose, texts in self.seen if whose == name]
        self.seen.clear()
        return found

    async def _handle(self, client: trio.SocketStream) -> None:
        self._buffers[client], self._texts[client] = bytearray(), []
        await super()._handle(client)

    def note(self, source: trio.SocketStream, data: bytes) -> None:
        """Read what a client sent (PostgreSQL's frontend/backend protocol, version 3)."""
        buffer = self._buffers.get(source)
        if buffer is None:
            return
        buffer += data
        while True:
            start = 0 if source not in self._names else 1
            end = start + int.from_bytes(buffer[start : start + 4], "big") if len(buffer) >= start + 4 else 0
            if not end or len(buffer) < end:
                return
            message = bytes(buffer[:end])
            del buffer[:end]
            if start == 0:
                self._greet(source, message)
            else:
                self._note_message(source, message[:1], message[5:])

    def _greet(self, source: trio.SocketStream, message: bytes) -> None:
        fields = message[8:].split(b"\0")
        if b"application_name" in fields:  # and not a request for encryption
            self._names[source] = fields[fields.index(b"application_name") + 1].decode()

    def _note_message(self, source: trio.SocketStream, kind: bytes, body: bytes) -> None:
        texts = self._texts[source]
        if kind == _QUERY:
            texts.append(body.rstrip(b"\0").decode())
        elif kind == _PARSE:
            texts.append(body.split(b"\0")[1].decode())
        if kind in (_QUERY, _SYNC):
            self.seen.append((self._names[source], list(texts)))
            texts.clear()


@asynccontextmanager
async def open_wire(conninfo: str) -> AsyncIterator[Wire]:
    """Run a proxy that reads along for the block."""
    wire = Wire(conninfo)
    async with trio.open_nursery() as nursery:
        await nursery.start(wire.serve)
        yield wire
        nursery.cancel_scope.cancel()
