"""One connection to RabbitMQ with one channel, and the word that it has ended: where asyncio is spoken."""

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
from trio_asyncio import aio_as_trio, open_loop  # type: ignore[import-untyped]  # ships no types
from yarl import URL

from regsvc.config.broker_url import BrokerServer, parse_broker_urls
from regsvc.errors import BrokerTopologyError, BrokerUnavailableError, ConfigurationError
from regsvc.rabbitmq import queues
from regsvc.rabbitmq.bursts import run_in_bursts
from regsvc.rabbitmq.declaration import declare_queue
from regsvc.rabbitmq.dial import FAILURES, Connection, Dial

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from aiormq.abc import FrameType
    from aiormq.channel import Channel

TIMEOUT = 10.0  # seconds for whatever the broker has to answer
HEARTBEAT = 10  # seconds; a broker that falls silent is given up after 22 to 27
LEAVE_SECONDS = 2.0
_DEAD_SECONDS = 1.0  # that opening a link waits for the queue of dead letters


T = TypeVar("T")
L = TypeVar("L", bound="Link")


def mask_url(urls: str) -> str:
    """Return AMQP URLs as they may be shown: no password, no options.

    Raises:
        ConfigurationError: They cannot be read.
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
    """Give a connected link of that kind with a loop of its own around it (Trio flavour).

    Of several URLs the first whose server lets us in is taken; they share the time for connecting.
    """
    servers = parse_broker_urls(urls)
    failure: Exception | None = None
    async with open_loop() as loop:
        run_in_bursts(loop)
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
        except Exception as error:  # noqa: BLE001 - the loop's two nurseries would wrap it in two groups
            failure = error
    if failure is not None:
        raise failure


async def _connect_any(links: Sequence[L], connect: Callable[[L], Awaitable[None]]) -> L:
    """Return the first link whose server lets us in (Trio flavour)."""
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
    """One connection with one channel. It ends once, and is not mended."""

    connection: Connection
    channel: Channel

    def __init__(self, loop: asyncio.AbstractEventLoop, server: BrokerServer, timeout: float) -> None:
        self._server = server
        self._loop = loop
        self._timeout = timeout
        self._dial: Dial | None = None
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
        except FAILURES as error:
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

    async def connect(self, name: str, heartbeat: int, *, confirms: bool, within: float) -> None:
        """Connect, log in and open the channel, all within so many seconds (Trio flavour)."""
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
        """Write down for aiormq what it takes by URL alone."""
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
        """Open connection and channel, and hear of their end (asyncio flavour)."""
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
            with suppress(*FAILURES):
                await self.connection.close()

    async def declare(self) -> None:
        """Declare both queues and learn how many mails' ids wait (asyncio flavour).

        The queue of dead letters holds up nothing. Where it cannot be declared, for the node that has it is down or
        because it was made otherwise, mails go on without it, and the relay says so.
        """
        self.messages_ready = await self.declare_queue(queues.MAILS)
        catching = self._loop.create_task(self.declare_queue(queues.DEAD))
        catching.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait([catching], timeout=_DEAD_SECONDS)

    async def declare_queue(self, queue: str) -> int:
        """Declare a queue and return how many messages wait in it (asyncio flavour)."""
        return await declare_queue(self.connection, queue, self._timeout)

    async def look(self, queue: str = queues.MAILS) -> int:
        """Tell how many messages wait, without declaring a queue that may not be there (asyncio flavour)."""
        with suppress(ChannelNotFoundEntity):
            looked = await self.channel.queue_declare(queue, passive=True, timeout=self._timeout)
            return looked.message_count or 0
        return 0

    def _error(self, why: BaseException | str) -> BrokerUnavailableError:
        """Put into words why this link is of no use."""
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
    """Note what asyncio found unhandled; trio-asyncio's own handler would raise it into the nursery."""
    error = context.get("exception")
    structlog.get_logger().debug(
        "broker connection leftover", what=context.get("message"), error=error and repr(error)
    )
