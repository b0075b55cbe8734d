"""Consume the messages of the legacy system from its own queue, which is not redeclared."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from regsvc.rabbitmq.consumer import Subscription, Unsettled
from regsvc.rabbitmq.link import HEARTBEAT, TIMEOUT, open_link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiormq.abc import DeliveredMessage


@dataclass(frozen=True, slots=True)
class LegacyDelivery(Unsettled):
    """A message as received.

    Args:
        body: any bytes.
        message_id: the sender's id for it; None if there is none.
    """

    body: bytes = field(repr=False)
    message_id: str | None


@asynccontextmanager
async def open_legacy_consumer(
    url: str,
    queue: str,
    *,
    prefetch: int,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - for each answer
    heartbeat: int = HEARTBEAT,
) -> AsyncIterator[LegacyConsumer]:
    """Connect and consume a queue that another system declared (Trio flavour). Unsettled messages return to the queue.

    A rejected message goes to that queue's dead-letter exchange, or is dropped if there is none.

    Args:
        url: `amqp://` or `amqps://`.
        queue: its name; the queue is not declared.
        prefetch: maximum number of unsettled messages.
        timeout: seconds for connecting, and for each answer after that.
        heartbeat: seconds; a broker that is silent for slightly more than twice that counts as lost.

    Raises:
        BrokerUnavailableError: the broker is unreachable or refuses, or the queue does not exist.
    """
    async with open_link(LegacyConsumer, url, "foreign", timeout=timeout, heartbeat=heartbeat) as consumer:
        await consumer.run(consumer.find, queue)
        await consumer.run(consumer.subscribe, queue, prefetch)
        yield consumer


async def check_legacy_queue(url: str, queue: str, *, timeout: float = TIMEOUT) -> None:  # noqa: ASYNC109 - as above
    """Connect, log in and check that the queue exists (Trio flavour).

    Raises:
        BrokerUnavailableError: names what is wrong: address, password, virtual host or queue.
    """
    async with open_link(LegacyConsumer, url, "check", timeout=timeout) as consumer:
        await consumer.run(consumer.find, queue)


class LegacyConsumer(Subscription[LegacyDelivery]):
    """A connection that consumes the legacy system's messages, without interpreting them."""

    async def find(self, queue: str) -> None:
        """Check that the queue exists, without declaring it (asyncio flavour)."""
        await self.channel.queue_declare(queue, passive=True, timeout=self._timeout)

    async def read(self, delivered: DeliveredMessage, tag: int) -> LegacyDelivery:
        """Return a message as received (asyncio flavour)."""
        message_id = delivered.header.properties.message_id or None
        return LegacyDelivery(bool(delivered.redelivered), tag, self, delivered.body, message_id)
