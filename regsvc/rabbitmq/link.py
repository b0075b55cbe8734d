"""A connection to RabbitMQ with one channel, which reports its end. Its methods bridge Trio and asyncio."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import structlog
import trio
from aiormq.abc import ChannelFrame
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from regsvc.config.broker_url import BrokerServer, parse_broker_urls
from regsvc.errors import BrokerTopologyError, BrokerUnavailableError, ConfigurationError
from regsvc.rabbitmq import queues
from regsvc.rabbitmq.declaration import declare_queue
from regsvc.rabbitmq.dial import FAILURES, Connection, Dial
from regsvc.rabbitmq.loop import Loop, open_loop

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence

    from aiormq.abc import FrameType
    from aiormq.channel import Channel

TIMEOUT = 10.0  # seconds for each answer of the broker
HEARTBEAT = 10  # seconds; a silent broker counts as lost after 22 to 27
LEAVE_SECONDS = 2.0
_DEAD_SECONDS = 1.0  # seconds to wait for the dead-letter queue while opening


T = TypeVar("T")
L = TypeVar("L", bound="Link")


def mask_url(urls: str) -> str:
    """Return AMQP URLs without passwords and options, for display.

    Raises:
        ConfigurationError: a URL is invalid.
    """
    parse_broker_urls(urls)
    addresses = [URL(url).with_query(None) for url in urls.split()]
    return " ".join(
        str(address if address.password is None else address.with_password("***")) for address in addresses
    )


@asynccontextmanager
async def open_link(
    kind: type[L],
    urls: str,
    name: str,
    *,
    timeout: float,  # noqa: ASYNC109 - for each answer
    heartbeat: int = HEARTBEAT,
    confirms: bool = False,
) -> AsyncIterator[L]:
    """Yield a connected link of a given class, with its own asyncio loop (Trio flavour).

    Of several URLs, the first server that accepts us is used; they share the time for connecting.
    """
    servers = parse_broker_urls(urls)
    failure: Exception | None = None
    async with open_loop() as loop:
        loop.set_exception_handler(_log_leftover)
        try:
            link = await _connect_any(
                [kind(loop, server, timeout) for server in servers],
                lambda link: link.connect(name, heartbeat, confirms=confirms, within=timeout / len(servers)),
            )
            try:
                yield link
            finally:
                await link.leave()
        except Exception as error:  # noqa: BLE001 - the loop's nursery would wrap it in a group
            failure = error
    if failure is not None:
        raise failure


async def _connect_any(links: Sequence[L], connect: Callable[[L], Awaitable[None]]) -> L:
    """Return the first link whose server accepts us (Trio flavour)."""
    failures: list[str] = []
    for link in links:
        try:
            await connect(link)
        except BrokerUnavailableError as error:
            await link.leave()
            failures.append(str(error))
        except BaseException:
            await link.leave()
            raise
        else:
            return link
    raise BrokerUnavailableError("; ".join(failures))


class Link:
    """One connection with one channel. Once it has ended it cannot be reopened."""

    connection: Connection
    channel: Channel

    def __init__(self, loop: Loop, server: BrokerServer, timeout: float) -> None:
        self._server = server
        self._loop = loop
        self._timeout = timeout
        self._dial: Dial | None = None
        self._ended = trio.Event()
        self._why: BaseException | str = ""
        self.messages_ready = 0

    async def wait_closed(self) -> NoReturn:
        """Wait until the broker or the network ends the connection (Trio flavour).

        Raises:
            BrokerUnavailableError: it has ended; with the reason.
        """
        await self._ended.wait()
        raise self._error(self._why)

    def check_open(self) -> None:
        """Raise BrokerUnavailableError, with the reason, if the connection has ended."""
        if self._ended.is_set():
            raise self._error(self._why)

    def end(self, why: BaseException | str) -> None:
        """Record why the connection is unusable; the first reason stays."""
        if not self._ended.is_set():
            self._why = why
            self._ended.set()

    async def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Run an asyncio function (Trio flavour). Errors of aiormq become BrokerUnavailableError."""
        try:
            return await self._loop.run(function, *args)
        except FAILURES as error:
            raise self._error(error) from error

    async def write(self, *frames: FrameType) -> None:
        """Pass frames to the connection's writer as one piece (Trio flavour). If cancelled, it has written nothing."""
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

    async def connect(self, name: str, heartbeat: int, *, confirms: bool, within: float) -> None:
        """Connect, log in and open the channel within so many seconds (Trio flavour)."""
        server = self._server
        try:
            with trio.fail_after(within):
                tls = await trio.to_thread.run_sync(server.make_tls) if server.encrypted else None
                self._dial = Dial(await trio.open_tcp_stream(server.host, server.port), within)
                await self.run(self._log_in, self._make_url(name, heartbeat), tls, confirms)
        except trio.TooSlowError as error:
            raise self._error(f"no answer within {within:g} s") from error
        except (OSError, ConfigurationError) as error:
            raise self._error(error) from error

    def _make_url(self, name: str, heartbeat: int) -> URL:
        """Build the URL for aiormq, with the options that it accepts only there."""
        server = self._server
        return URL.build(
            scheme="amqps" if server.encrypted else "amqp",
            user=server.username or None,
            password=server.password or None,
            host=server.host,
            port=server.port,
            path="/",
            query={
                "heartbeat": str(heartbeat),
                "name": f"regsvc {name} {socket.gethostname()}:{os.getpid()}",
                "auth": "external" if server.external else "plain",
            },
        )

    async def _log_in(self, url: URL, tls: ssl.SSLContext | None, confirms: bool) -> None:  # noqa: FBT001 - `run` passes by position
        """Open connection and channel, and watch for their end (asyncio flavour)."""
        self.connection = Connection(url, transport_factory=self._dial, context=tls)
        self.connection.vhost = self._server.vhost
        await self.connection.connect()
        self.connection.closing.add_done_callback(self._on_closing)
        opened = await self.connection.channel(publisher_confirms=confirms, timeout=self._timeout)
        self.channel = cast("Channel", opened)
        self.channel.closing.add_done_callback(self._on_closing)

    def _on_closing(self, closing: asyncio.Future[Any]) -> None:
        lost = "the connection was lost"
        self.end(lost if closing.cancelled() else closing.exception() or lost)

    async def leave(self) -> None:
        """Close the connection within two or three seconds, even if the broker does not answer (Trio flavour)."""
        with trio.CancelScope(shield=True):
            await self._loop.run(self._leave)
        self.end("the connection was closed")

    async def _leave(self) -> None:
        """Close the connection, and the socket even if the broker does not answer (asyncio flavour)."""
        parting = asyncio.ensure_future(self.part())
        await asyncio.wait([parting], timeout=LEAVE_SECONDS)
        if self._dial is not None:
            self._dial.abort()  # whatever still waits for the broker ends now
        await asyncio.wait([parting], timeout=LEAVE_SECONDS / 4)

    async def part(self) -> None:
        """Close the connection cleanly, if there is one (asyncio flavour)."""
        if hasattr(self, "connection"):
            with suppress(*FAILURES):
                await self.connection.close()

    async def declare(self) -> None:
        """Declare both queues and learn how many ids of mails are ready (asyncio flavour).

        The dead-letter queue is optional. If it cannot be declared, because its node is down or it was declared
        differently, mails are sent without it, and the relay logs that.
        """
        self.messages_ready = await self.declare_queue(queues.MAILS)
        catching = self._loop.create_task(self.declare_queue(queues.DEAD))
        catching.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait([catching], timeout=_DEAD_SECONDS)

    async def declare_queue(self, queue: str) -> int:
        """Declare a queue and return the number of messages ready in it (asyncio flavour)."""
        return await declare_queue(self.connection, queue, self._timeout)

    async def look(self, queue: str = queues.MAILS) -> int:
        """Return the number of messages ready, without declaring a queue that may not exist (asyncio flavour)."""
        with suppress(ChannelNotFoundEntity):
            looked = await self.channel.queue_declare(queue, passive=True, timeout=self._timeout)
            return looked.message_count or 0
        return 0

    def _error(self, why: BaseException | str) -> BrokerUnavailableError:
        """Return the error for a reason."""
        broker = f"RabbitMQ at {self._server.shown}"
        text = (
            why if isinstance(why, str) else ": ".join(str(part) for part in why.args) or type(why).__name__
        )
        if isinstance(why, OSError) and isinstance(why.__cause__, BaseExceptionGroup):
            text = str(why.__cause__.exceptions[0])  # one for each address
        if isinstance(why, ChannelPreconditionFailed) and (explained := queues.explain_refusal(text)):
            return BrokerTopologyError(explained)
        if isinstance(why, ChannelAccessRefused):
            return BrokerTopologyError(f"{broker}: {text}; grant it (rabbitmqctl set_permissions)")
        if isinstance(why, BrokerUnavailableError):
            return why
        if isinstance(why, (TimeoutError, trio.TooSlowError)):
            text = f"no answer within {self._timeout:g} s"
        elif isinstance(why, ProbableAuthenticationError):
            text = "user or password refused"
        elif isinstance(why, InvalidFrameError) and "Connection.OpenOk" in text:
            text = f"virtual host {self._server.vhost} refused"
        elif isinstance(why, asyncio.CancelledError):
            text = "the connection was lost"
        return BrokerUnavailableError(f"{broker}: {text}")


def _log_leftover(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what asyncio left unhandled."""
    error = context.get("exception")
    structlog.get_logger().debug(
        "broker connection leftover", what=context.get("message"), error=error and repr(error)
    )
