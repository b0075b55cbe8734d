"""One connection to RabbitMQ with one channel, and the word that it has ended: where asyncio is spoken."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import aiormq
import structlog
import trio
from aiormq.abc import ChannelFrame
from aiormq.connection import TransportFactory
from aiormq.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from pamqp.header import ContentHeader
from trio_asyncio import aio_as_trio, open_loop  # type: ignore[import-untyped]  # ships no types
from yarl import URL

from regsvc.errors import BrokerTopologyError, BrokerUnavailableError
from regsvc.rabbitmq import queues
from regsvc.rabbitmq.bursts import run_in_bursts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiormq.abc import FrameType
    from aiormq.channel import Channel

TIMEOUT = 10.0  # seconds for whatever the broker has to answer
HEARTBEAT = 10  # seconds; a broker that falls silent is given up after 22 to 27
LEAVE_SECONDS = 2.0

# What aiormq raises when the broker refuses or goes away. CancelledError, where nothing of ours was cancelled, is
# a task of its own that ended with the connection; RuntimeError is a call that came after that.
_FAILURES = (AMQPError, OSError, RuntimeError, TimeoutError, asyncio.CancelledError)
_PORTS = {"amqp": 5672, "amqps": 5671}

T = TypeVar("T")
L = TypeVar("L", bound="Link")


def mask_url(url: str) -> str:
    """Return an AMQP URL as it may be shown: no password, no options."""
    address = URL(url).with_query(None)
    return str(address if address.password is None else address.with_password("***"))


async def check_broker(url: str, *, timeout: float = TIMEOUT) -> None:  # noqa: ASYNC109 - for each answer
    """Connect, log in and look at the queue without declaring it (Trio flavour).

    Raises:
        BrokerUnavailableError: with what is wrong: address, password, virtual host.
    """
    async with open_link(Link, url, "check", timeout=timeout) as link:
        await link.run(link.look)


@asynccontextmanager
async def open_link(
    kind: type[L],
    url: str,
    name: str,
    *,
    timeout: float,  # noqa: ASYNC109 - for each answer
    heartbeat: int = HEARTBEAT,
    confirms: bool = False,
) -> AsyncIterator[L]:
    """Give a connected link of that kind with a loop of its own around it (Trio flavour)."""
    failure: Exception | None = None
    async with open_loop() as loop:
        run_in_bursts(loop)
        loop.set_exception_handler(_log_leftover)
        link = kind(loop, url, timeout)
        try:
            await link.connect(name, heartbeat, confirms=confirms)
            yield link
        except Exception as error:  # noqa: BLE001 - the loop's two nurseries would wrap it in two groups
            failure = error
        finally:
            await link.leave()
    if failure is not None:
        raise failure


class Link:
    """One connection with one channel. It ends once, and is not mended."""

    connection: _Connection
    channel: Channel

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str, timeout: float) -> None:
        address = URL(url)
        self._url = address.with_port(address.port or _PORTS[address.scheme])
        self._loop = loop
        self._timeout = timeout
        self._dial: _Dial | None = None
        self._ended = trio.Event()
        self._why: BaseException | str = ""
        self.messages_ready = 0

    async def wait_closed(self) -> NoReturn:
        """Wait until the broker or the network ends this (Trio flavour).

        Raises:
            BrokerUnavailableError: when it has ended, with why.
        """
        await self._ended.wait()
        raise self._error(self._why)

    def check_open(self) -> None:
        """Raise BrokerUnavailableError, with why, if this has ended."""
        if self._ended.is_set():
            raise self._error(self._why)

    def end(self, why: BaseException | str) -> None:
        """Note that this is of no use any more; the first reason stays."""
        if not self._ended.is_set():
            self._why = why
            self._ended.set()

    async def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run something of asyncio flavour (Trio flavour); what aiormq raises becomes BrokerUnavailableError."""
        try:
            return cast("T", await aio_as_trio(function, loop=self._loop)(*args))
        except _FAILURES as error:
            raise self._error(error) from error

    async def write(self, *frames: FrameType) -> None:
        """Hand frames to the connection's writer in one piece (Trio flavour); cancelled, it wrote nothing."""
        self.check_open()
        queue, piece = self.channel.write_queue, ChannelFrame.marshall(self.channel.number, frames)
        try:
            queue.put_nowait(piece)
        except asyncio.QueueFull:
            try:
                with trio.fail_after(self._timeout):
                    await self.run(queue.put, piece)
            except trio.TooSlowError as error:
                self.end(error)
                self.check_open()

    async def connect(self, name: str, heartbeat: int, *, confirms: bool) -> None:
        """Connect, log in and open the channel, all within the timeout (Trio flavour)."""
        host, port = self._url.host or "localhost", self._url.port or 0
        options = {"heartbeat": str(heartbeat), "name": f"regsvc {name} {socket.gethostname()}:{os.getpid()}"}
        try:
            with trio.fail_after(self._timeout):
                self._dial = _Dial(await trio.open_tcp_stream(host, port), self._timeout)
                await self.run(self._log_in, self._url.update_query(options), confirms)
        except (OSError, trio.TooSlowError) as error:
            raise self._error(error) from error

    async def _log_in(self, url: URL, confirms: bool) -> None:  # noqa: FBT001 - `run` passes by position
        """Open connection and channel, and hear of their end (asyncio flavour)."""
        self.connection = _Connection(url, transport_factory=self._dial)
        await self.connection.connect()
        self.connection.closing.add_done_callback(self._on_closing)
        opened = await self.connection.channel(publisher_confirms=confirms, timeout=self._timeout)
        self.channel = cast("Channel", opened)
        self.channel.closing.add_done_callback(self._on_closing)

    def _on_closing(self, closing: asyncio.Future[Any]) -> None:
        lost = "the connection was lost"
        self.end(lost if closing.cancelled() else closing.exception() or lost)

    async def leave(self) -> None:
        """Take leave of the broker, within two or three seconds whatever it does (Trio flavour)."""
        with trio.CancelScope(shield=True):
            await aio_as_trio(self._leave, loop=self._loop)()
        self.end("the connection was closed")

    async def _leave(self) -> None:
        """Say good-bye, then close the socket even if nobody answered (asyncio flavour)."""
        parting = asyncio.ensure_future(self.part())
        await asyncio.wait([parting], timeout=LEAVE_SECONDS)
        if self._dial is not None:
            self._dial.abort()  # whatever still waits for the broker ends now
        await asyncio.wait([parting], timeout=LEAVE_SECONDS / 4)

    async def part(self) -> None:
        """Close the connection in order, if there is one (asyncio flavour)."""
        if hasattr(self, "connection"):
            with suppress(*_FAILURES):
                await self.connection.close()

    async def declare(self) -> None:
        """Declare both queues and learn how many mails' ids wait (asyncio flavour)."""
        for queue, arguments in queues.ARGUMENTS.items():
            declared = await self.channel.queue_declare(
                queue, durable=True, arguments=dict(arguments), timeout=self._timeout
            )
            if queue == queues.MAILS:
                self.messages_ready = declared.message_count or 0

    async def look(self, queue: str = queues.MAILS) -> int:
        """Tell how many messages wait, without declaring a queue that may not be there (asyncio flavour)."""
        with suppress(ChannelNotFoundEntity):
            looked = await self.channel.queue_declare(queue, passive=True, timeout=self._timeout)
            return looked.message_count or 0
        return 0

    def _error(self, why: BaseException | str) -> BrokerUnavailableError:
        """Put into words why this link is of no use."""
        broker = f"RabbitMQ at {self._url.host}:{self._url.port}"
        text = (
            why if isinstance(why, str) else ": ".join(str(part) for part in why.args) or type(why).__name__
        )
        if isinstance(why, OSError) and isinstance(why.__cause__, BaseExceptionGroup):
            text = str(why.__cause__.exceptions[0])  # one for each address
        if isinstance(why, ChannelPreconditionFailed) and (explained := queues.explain_refusal(text)):
            return BrokerTopologyError(explained)
        if isinstance(why, BrokerUnavailableError):
            return why
        if isinstance(why, (TimeoutError, trio.TooSlowError)):
            text = f"no answer within {self._timeout:g} s"
        elif isinstance(why, ProbableAuthenticationError):
            text = "user or password refused"
        elif isinstance(why, InvalidFrameError) and "Connection.OpenOk" in text:
            text = f"virtual host {self._url.path.removeprefix('/') or '/'} refused"
        elif isinstance(why, asyncio.CancelledError):
            text = "the connection was lost"
        return BrokerUnavailableError(f"{broker}: {text}")


class _Connection(aiormq.Connection):
    """aiormq's connection, sooner to give up: a black hole is to be noticed within 35 s, and no exit hangs."""

    HEARTBEAT_GRACE_MULTIPLIER = 2
    READER_CLOSE_TIMEOUT = 1


class _Dial(TransportFactory):
    """Hands aiormq a socket that Trio connected: names are looked up and addresses raced under cancellation."""

    def __init__(self, stream: trio.SocketStream, timeout: float) -> None:
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.settimeout(0)
        self._timeout = timeout
        self._transport: asyncio.WriteTransport | None = None

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Make the streams that aiormq reads and writes (asyncio flavour)."""
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
        """Close the socket, whatever is still to be sent."""
        if self._transport is None:
            self._socket.close()
        else:
            self._transport.abort()


class _Reader(asyncio.StreamReader):
    """Takes the properties off a message whose properties cannot be read.

    A content header that pamqp cannot decode (text that is not UTF-8, a date in the year 292278994) would end the
    connection, and the message come again with the next one, for ever. Without them it is malformed like others.
    """

    _frame_type = b""

    async def readexactly(self, n: int) -> bytes:
        """Read as aiormq's receiver does: one byte of type, six of channel and size, the rest (asyncio flavour)."""
        data = await super().readexactly(n)
        if n == 1:
            self._frame_type = data
        elif n > 14 and self._frame_type == b"\x02":  # noqa: PLR2004 - twelve bytes, then the flags (AMQP 4.2.6.1)
            try:
                ContentHeader().unmarshal(data[:-1])
            except Exception:  # noqa: BLE001 - whatever it stumbles over, RecursionError too
                return data[:12] + b"\0\0" + data[14:]
        return data


def _log_leftover(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Note what asyncio found unhandled; trio-asyncio's own handler would raise it into the nursery."""
    error = context.get("exception")
    structlog.get_logger().debug(
        "broker connection leftover", what=context.get("message"), error=error and repr(error)
    )
