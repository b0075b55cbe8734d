"""Publish events to a topic exchange, each confirmed by the broker."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiormq.exceptions import ChannelPreconditionFailed
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from regsvc.errors import BrokerTopologyError
from regsvc.rabbitmq.link import HEARTBEAT, TIMEOUT, open_link
from regsvc.rabbitmq.publisher import Publisher, PublishResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from aiormq.abc import FrameType


@dataclass(frozen=True)
class EventMessage:
    """An event to publish.

    Args:
        id: of the event, the same whenever it is published.
        type: of the event: its routing key.
        body: of the message.
        content_type: of the body.
        traceparent: header of what is traced.
    """

    id: UUID
    type: str
    body: bytes
    content_type: str
    traceparent: str | None = None


@asynccontextmanager
async def open_event_publisher(
    url: str,
    exchange: str,
    *,
    timeout: float = TIMEOUT,  # noqa: ASYNC109 - for each answer
    heartbeat: int = HEARTBEAT,
) -> AsyncIterator[EventPublisher]:
    """Connect, declare a durable topic exchange and yield a publisher to it (Trio flavour).

    Args:
        url: `amqp://` or `amqps://`.
        exchange: its name.
        timeout: seconds for connecting, and for each answer after that.
        heartbeat: seconds, as for `open_publisher`.

    Raises:
        BrokerUnavailableError: the broker is unreachable or refuses.
        BrokerTopologyError: the exchange is of another kind.
    """
    async with open_link(
        EventPublisher, url, "events", timeout=timeout, heartbeat=heartbeat, confirms=True
    ) as publisher:
        await publisher.run(publisher.declare_exchange, exchange)
        yield publisher


class EventPublisher(Publisher):
    """A connection that publishes events. A message that no queue takes is returned, and counts as confirmed."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._exchange = ""
        self._messages: dict[UUID, EventMessage] = {}

    async def declare_exchange(self, exchange: str) -> None:
        """Declare the exchange (asyncio flavour).

        Raises:
            BrokerTopologyError: there is one of another kind.
        """
        try:
            await self.channel.exchange_declare(
                exchange, exchange_type="topic", durable=True, timeout=self._timeout
            )
        except ChannelPreconditionFailed as error:
            text = ": ".join(str(part) for part in error.args)
            raise BrokerTopologyError(
                f"the exchange {exchange} is there, but is no durable topic exchange: {text}"
            ) from error
        self._exchange = exchange

    async def publish_events(self, events: Sequence[EventMessage]) -> PublishResult:
        """Publish events, persistent and mandatory, in their order, and wait for the confirms (Trio flavour).

        Raises:
            BrokerUnavailableError: as `publish`.
        """
        self._messages = {event.id: event for event in events}
        return await self.publish(self._messages)

    def write_frames(self, mail_id: UUID) -> tuple[FrameType, ...]:
        """Return the frames of one event."""
        event = self._messages[mail_id]
        properties = Basic.Properties(
            content_type=event.content_type,
            message_type=event.type,
            message_id=str(event.id),
            delivery_mode=2,
            headers=None if event.traceparent is None else {"traceparent": event.traceparent},
        )
        return (
            Basic.Publish(exchange=self._exchange, routing_key=event.type, mandatory=True),
            ContentHeader(properties=properties, body_size=len(event.body)),
            ContentBody(event.body),
        )

    def note_returned(self) -> None:
        """Go on: no queue is bound for this type of event, and that is the consumers' affair."""
