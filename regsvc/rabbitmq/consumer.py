"""Consume messages from a queue and settle each after it is processed; above all the ids of mails."""

from __future__ import annotations

import math
from abc import abstractmethod
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio
from pamqp.commands import Basic

from regsvc.errors import MalformedMessageError
from regsvc.rabbitmq import message, queues
from regsvc.rabbitmq.link import HEARTBEAT, TIMEOUT, Link, open_link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from uuid import UUID

    from aiormq.abc import DeliveredMessage

    from regsvc.tracing.trace_context import TraceContext

_PART_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A message, held by its consumer until it is settled or the consumer ends."""

    redelivered: bool
    tag: int = field(repr=False)
    _consumer: Subscription[Any] = field(repr=False, compare=False)

    async def ack(self) -> None:
        """Remove the message from the queue (Trio flavour). For many at once, use `Consumer.ack`."""
        await self._consumer.ack((self,))

    async def reject(self) -> None:
        """Move the message to the dead letters (Trio flavour)."""
        await self._consumer.write(Basic.Reject(self.tag, requeue=False))

    async def requeue(self) -> None:
        """Return the message to the queue for any consumer (Trio flavour)."""
        await self._consumer.write(Basic.Reject(self.tag, requeue=True))


@dataclass(frozen=True, slots=True)
class Delivery(Unsettled):
    """The id of one mail, from our own queue, and the span that published it, if that was recorded."""

    mail_id: UUID
    published: TraceContext | None = None


U = TypeVar("U", bound=Unsettled)


@asynccontextmanager
async def open_consumer(
    url: str,
    *,
    prefetch: int,
    on_malformed: Callable[[str], None],
    name: str = "mailer",
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - for each answer
    heartbeat: int = HEARTBEAT,
) -> AsyncIterator[Consumer]:
    """Connect, declare the queues and yield a Consumer (Trio flavour). Unsettled messages return to the queue.

    Args:
        url: `amqp://` or `amqps://`.
        prefetch: maximum number of unsettled deliveries.
        on_malformed: called with what is wrong for each malformed message, which is moved to the dead letters.
        name: the connection's name on the broker's management page.
        timeout: seconds for connecting, and for each answer after that.
        heartbeat: seconds; a broker that is silent for slightly more than twice that counts as lost.

    Raises:
        BrokerUnavailableError: the broker is unreachable or refuses; BrokerTopologyError for a conflicting queue.
    """
    async with open_link(Consumer, url, name, timeout=timeout, heartbeat=heartbeat) as consumer:
        await consumer.run(consumer.declare)
        await consumer.run(consumer.start, prefetch, on_malformed)
        yield consumer


class Subscription(Link, Generic[U]):
    """A connection that consumes a queue: `async for delivery in consumer`, or `receive` for several at once.

    Both raise BrokerUnavailableError once the connection, the channel or the queue is gone. Unsettled deliveries can no
    longer be settled then; the broker delivers them again, `redelivered`.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._tag: str | None = None
        self._arrivals, self._arrived = trio.open_memory_channel[U](math.inf)  # bounded by prefetch

    def __aiter__(self) -> Subscription[U]:
        return self

    async def __anext__(self) -> U:
        return (await self.receive(1))[0]

    async def receive(self, limit: int) -> list[U]:
        """Wait for a message and return it with those already here, at most `limit` (Trio flavour)."""
        self.check_open()
        try:
            batch = [await self._arrived.receive()]
            while len(batch) < limit:
                batch.append(self._arrived.receive_nowait())
        except trio.WouldBlock:
            pass
        except trio.EndOfChannel:
            self.check_open()
        return batch

    async def ack(self, deliveries: Iterable[U]) -> None:
        """Remove messages from the queue in one write (Trio flavour).

        The broker does not answer an ack. If it gets lost, the message is delivered again.

        Raises:
            BrokerUnavailableError: the connection has ended.
        """
        await self.write(*(Basic.Ack(delivery.tag) for delivery in deliveries))

    async def stop(self) -> list[U]:
        """Stop consuming, and return the messages that arrived but were not received (Trio flavour).

        Received messages can still be settled.
        """
        await self.run(self._unsubscribe)
        rest: list[U] = []
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                rest.append(self._arrived.receive_nowait())
        return rest

    def end(self, why: BaseException | str) -> None:
        """Record why this connection is unusable, and wake the tasks that wait for messages."""
        super().end(why)
        self._arrivals.close()

    async def subscribe(self, queue: str, prefetch: int) -> None:
        """Subscribe to a queue (asyncio flavour)."""
        self._queue = queue
        self.channel.on_consumer_cancel_callbacks.add(self._on_cancelled)
        await self.channel.basic_qos(prefetch_count=prefetch, timeout=self._timeout)
        subscribed = await self.channel.basic_consume(queue, self._on_message, timeout=self._timeout)
        self._tag = subscribed.consumer_tag

    async def part(self) -> None:
        """Cancel the subscription, which flushes earlier acks, and close (asyncio flavour)."""
        await self._unsubscribe()
        await super().part()

    async def _unsubscribe(self) -> None:
        """Cancel the subscription, if there is one (asyncio flavour)."""
        tag, self._tag = self._tag, None
        if tag is not None and not self._ended.is_set():
            with suppress(Exception):  # closing anyway, so a broker that does not answer does not matter
                await self.channel.basic_cancel(tag, timeout=_PART_SECONDS)

    def _on_cancelled(self, _cancel: Basic.Cancel) -> None:
        self.end(f"the queue {self._queue} is gone")

    async def _on_message(self, delivered: DeliveredMessage) -> None:
        """Queue a message for `receive` (asyncio flavour); aiormq only logs errors."""
        try:
            arrived = await self.read(delivered, delivered.delivery_tag or 0)
            if arrived is not None:
                with suppress(trio.ClosedResourceError):  # ended: the broker delivers it again
                    self._arrivals.send_nowait(arrived)
        except Exception as error:  # noqa: BLE001 - it ends the consumer, where the error is seen
            self.end(error)

    @abstractmethod
    async def read(self, delivered: DeliveredMessage, tag: int) -> U | None:
        """Decode a message. Return None if it was settled at once (asyncio flavour)."""


class Consumer(Subscription[Delivery]):
    """A connection that consumes the ids of mails, and dead-letters malformed messages."""

    async def start(self, prefetch: int, on_malformed: Callable[[str], None]) -> None:
        """Subscribe to the ids of mails (asyncio flavour)."""
        self._on_malformed = on_malformed
        await self.subscribe(queues.MAILS, prefetch)

    async def read(self, delivered: DeliveredMessage, tag: int) -> Delivery | None:
        """Return the delivery of a well-formed message, and dead-letter any other (asyncio flavour)."""
        try:
            mail_id = message.decode(delivered.body, delivered.header.properties)
        except MalformedMessageError as error:
            await self.channel.basic_reject(tag, requeue=False, wait=False)
            self._on_malformed(str(error))
            return None
        published = message.read_trace(delivered.header.properties)
        return Delivery(bool(delivered.redelivered), tag, self, mail_id, published)
