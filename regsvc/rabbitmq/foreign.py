"""Taking the messages of another system from its own queue, which stays as that system declared it."""

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
class ForeignDelivery(Unsettled):
    """A message as it came.

    Args:
        body: anything.
        message_id: what its sender calls it; None if nothing.
    """

    body: bytes = field(repr=False)
    message_id: str | None


@asynccontextmanager
async def open_foreign_consumer(
    url: str,
    queue: str,
    *,
    prefetch: int,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - for each answer
    heartbeat: int = HEARTBEAT,
) -> AsyncIterator[ForeignConsumer]:
    """Connect and consume a queue that somebody else declared (Trio flavour). What is unsettled at the end goes back.

    Rejecting a message moves it wherever that queue moves what is rejected, and drops it if it moves it nowhere.

    Args:
        url: `amqp://` or `amqps://`.
        queue: its name; nothing is declared.
        prefetch: how many messages the broker hands over before some are settled, at most.
        timeout: seconds that connecting may take, and any answer after that.
        heartbeat: seconds; a broker silent for twice that and a little is given up.

    Raises:
        BrokerUnavailableError: out of reach or refusing, or there is no such queue.
    """
    async with open_link(ForeignConsumer, url, "foreign", timeout=timeout, heartbeat=heartbeat) as consumer:
        await consumer.run(consumer.find, queue)
        await consumer.run(consumer.subscribe, queue, prefetch)
        yield consumer


async def check_foreign_queue(url: str, queue: str, *, timeout: float = TIMEOUT) -> None:  # noqa: ASYNC109 - as above
    """Connect, log in and look whether the queue is there (Trio flavour).

    Raises:
        BrokerUnavailableError: with what is wrong: address, password, virtual host, queue.
    """
    async with open_link(ForeignConsumer, url, "check", timeout=timeout) as consumer:
        await consumer.run(consumer.find, queue)


class ForeignConsumer(Subscription[ForeignDelivery]):
    """A connection that consumes what another system publishes; what it means is for others to say."""

    async def find(self, queue: str) -> None:
        """Make sure that the queue is there, whatever it is like (asyncio flavour)."""
        await self.channel.queue_declare(queue, passive=True, timeout=self._timeout)

    async def read(self, delivered: DeliveredMessage, tag: int) -> ForeignDelivery:
        """Return a message as it came (asyncio flavour)."""
        message_id = delivered.header.properties.message_id or None
        return ForeignDelivery(bool(delivered.redelivered), tag, self, delivered.body, message_id)
