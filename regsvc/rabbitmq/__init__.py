"""RabbitMQ: publish and consume the ids of mails. Only this package uses asyncio.

aiormq uses asyncio, the rest of the program Trio; `loop.py` runs one inside the other. The docstring of every async
function here names its flavour; the public functions are of Trio flavour. Each publisher or consumer has its own loop,
connection and channel, because an alarm of the broker blocks whole connections that publish. Nothing here reconnects:
a lost connection raises BrokerUnavailableError, and the supervisor restarts the child.
"""

from regsvc.rabbitmq.consumer import Consumer, Delivery, open_consumer
from regsvc.rabbitmq.dead_letters import DeadLetter, DeadLetters, open_dead_letters
from regsvc.rabbitmq.events import EventMessage, EventPublisher, open_event_publisher
from regsvc.rabbitmq.legacy_queue import (
    LegacyConsumer,
    LegacyDelivery,
    check_legacy_queue,
    open_legacy_consumer,
)
from regsvc.rabbitmq.link import mask_url
from regsvc.rabbitmq.proof import check_broker, check_dead_letter_queue
from regsvc.rabbitmq.publisher import Publisher, PublishFailure, PublishResult, open_publisher

__all__ = [
    "Consumer",
    "DeadLetter",
    "DeadLetters",
    "Delivery",
    "EventMessage",
    "EventPublisher",
    "LegacyConsumer",
    "LegacyDelivery",
    "PublishFailure",
    "PublishResult",
    "Publisher",
    "check_broker",
    "check_dead_letter_queue",
    "check_legacy_queue",
    "mask_url",
    "open_consumer",
    "open_dead_letters",
    "open_event_publisher",
    "open_legacy_consumer",
    "open_publisher",
]
