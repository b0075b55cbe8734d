"""The socket to RabbitMQ: connected by Trio, read and written by aiormq."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import aiormq
from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPConnectionError, AMQPError
from pamqp.header import ContentHeader

if TYPE_CHECKING:
    import trio
    from yarl import URL


# Errors of aiormq when the broker refuses or is lost. CancelledError, without a cancellation of ours, comes from one of
# its tasks that ended with the connection; RuntimeError from a call after that.
FAILURES = (AMQPError, OSError, RuntimeError, TimeoutError, asyncio.CancelledError)


class Connection(aiormq.Connection):
    """aiormq's connection with shorter timeouts: silent packet loss is detected within 35 s, and no exit hangs."""

    HEARTBEAT_GRACE_MULTIPLIER = 2
    READER_CLOSE_TIMEOUT = 1


class Dial(TransportFactory):
    """Gives aiormq a socket connected by Trio, whose name resolution and address racing can be cancelled."""

    def __init__(self, stream: trio.SocketStream, timeout: float) -> None:
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.settimeout(0)
        self._timeout = timeout
        self._transport: asyncio.WriteTransport | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Create the streams that aiormq reads and writes (asyncio flavour)."""
        loop = asyncio.get_running_loop()
        reader = _Reader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        tls: dict[str, Any] = {}
        if url.scheme == "amqps":
            tls = {
                "ssl": await kwargs["ssl_context_provider"].get_context(),
                "server_hostname": url.host,
                "ssl_handshake_timeout": self._timeout,
                "ssl_shutdown_timeout": 1.0,
            }
        try:
            transport, _ = await loop.create_connection(lambda: protocol, sock=self._socket, **tls)
        except OSError as error:
            raise AMQPConnectionError(*error.args) from error
        self._transport = transport
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def abort(self) -> None:
        """Close the socket and discard unsent data."""
        if self._transport is None:
            self._socket.close()
        else:
            self._transport.abort()


class _Reader(asyncio.StreamReader):
    """Removes the properties from a message whose properties cannot be decoded.

    A content header that pamqp cannot decode (text that is not UTF-8, a date in the year 292278994) would end the
    connection, and the message would come again with the next one, for ever. Without properties it is merely malformed.
    """

    _frame_type = b""

    async def readexactly(self, n: int) -> bytes:
        """Read as aiormq's receiver expects: type (1 byte), channel and size (6), the rest (asyncio flavour)."""
        data = await super().readexactly(n)
        if n == 1:
            self._frame_type = data
        elif n > 14 and self._frame_type == b"\x02":  # noqa: PLR2004 - twelve bytes, then the flags (AMQP 4.2.6.1)
            try:
                ContentHeader().unmarshal(data[:-1])
            except Exception:  # noqa: BLE001 - whatever it stumbles over, RecursionError too
                return data[:12] + b"\0\0" + data[14:]
        return data
