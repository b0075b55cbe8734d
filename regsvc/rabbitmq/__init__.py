"""RabbitMQ: publishing and taking the ids of mails. The one room where asyncio lives.

aiormq speaks asyncio and the rest of the program Trio; trio-asyncio runs the one on the other. Every async
function here says its flavour, and those named below are of Trio flavour. A publisher or consumer has a loop, a
connection and a channel of its own, for the broker's alarms stop whole connections that publish. Nothing here
reconnects: what ends raises BrokerUnavailableError, and the supervisor starts anew.
"""

from regsvc.rabbitmq.consumer import Consumer, Delivery, open_consumer
from regsvc.rabbitmq.dead_letters import DeadLetter, DeadLetters, open_dead_letters
from regsvc.rabbitmq.foreign import (
    ForeignConsumer,
    ForeignDelivery,
    check_foreign_queue,
    open_foreign_consumer,
)
from regsvc.rabbitmq.link import mask_url
from regsvc.rabbitmq.proof import check_broker, check_dead_letter_queue
from regsvc.rabbitmq.publisher import Publisher, PublishFailure, PublishResult, open_publisher

__all__ = [
    "Consumer",
    "DeadLetter",
    "DeadLetters",
    "Delivery",
    "ForeignConsumer",
    "ForeignDelivery",
    "PublishFailure",
    "PublishResult",
    "Publisher",
    "check_broker",
    "check_dead_letter_queue",
    "check_foreign_queue",
    "mask_url",
    "open_consumer",
    "open_dead_letters",
    "open_foreign_consumer",
    "open_publisher",
]
