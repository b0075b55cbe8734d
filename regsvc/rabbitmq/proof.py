"""Check, for `regsvc check`, that the queues match their declaration and that the user may use them.

Nothing is left behind: no queue, no message. RabbitMQ checks permissions first, so each check requests something that
is impossible once it is permitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
)

from regsvc.rabbitmq import queues
from regsvc.rabbitmq.declaration import declare_queue, side_channel
from regsvc.rabbitmq.link import TIMEOUT, Link, open_link

if TYPE_CHECKING:
    from aiormq.abc import DeliveredMessage


async def check_broker(urls: str, *, timeout: float = TIMEOUT) -> None:  # noqa: ASYNC109 - for each answer
    """Connect, log in, and check the mail queue and the permissions to publish and consume (Trio flavour).

    Args:
        urls: `amqp://` or `amqps://`, one or several.
        timeout: seconds for connecting, and for each answer after that.

    Raises:
        BrokerUnavailableError: address, user, virtual host or a permission is wrong; BrokerTopologyError if the queue
            is declared differently.
    """
    async with open_link(_Prover, urls, "check", timeout=timeout) as prover:
        await prover.run(prover.prove_queue, queues.MAILS)
        await prover.run(prover.prove_consuming, queues.MAILS)
        await prover.run(prover.prove_publishing)


async def check_dead_letter_queue(urls: str, *, timeout: float = TIMEOUT) -> None:  # noqa: ASYNC109 - as above
    """Check the dead-letter queue. Without it mails are still sent, but malformed messages are lost.

    Args:
        urls: as for `check_broker`.
        timeout: seconds, as for `check_broker`.

    Raises:
        BrokerUnavailableError: as for `check_broker`.
    """
    async with open_link(_Prover, urls, "check", timeout=timeout) as prover:
        await prover.run(prover.prove_queue, queues.DEAD)


class _Prover(Link):
    """A connection for checks; every method is asyncio flavour."""

    async def prove_queue(self, queue: str) -> None:
        """Check that a queue exists as we declare it, or that it can be declared."""
        try:
            async with side_channel(self.connection, self._timeout) as channel:
                await channel.queue_declare(queue, passive=True, timeout=self._timeout)
        except ChannelNotFoundEntity as missing:
            if "no queue" not in str(missing):  # its node is down
                raise
            await self._prove_declaring(queue)
        else:
            await declare_queue(self.connection, queue, self._timeout)

    async def _prove_declaring(self, queue: str) -> None:
        """Declare a queue with an argument that no queue can have: refused for the argument, not the permission."""
        arguments = {**queues.ARGUMENTS[queue], "x-max-length": "none"}
        try:
            async with side_channel(self.connection, self._timeout) as channel:
                await channel.queue_declare(queue, durable=True, arguments=arguments, timeout=self._timeout)
        except ChannelPreconditionFailed as refused:
            if "x-max-length" not in str(refused):
                raise

    async def prove_consuming(self, queue: str) -> None:
        """Consume with an argument that no consumer can have."""

        async def take(_message: DeliveredMessage) -> None:
            """Ignore the message: none arrives."""

        try:
            async with side_channel(self.connection, self._timeout) as channel:
                await channel.basic_consume(
                    queue, take, arguments={"x-priority": "none"}, timeout=self._timeout
                )
        except ChannelNotFoundEntity:
            pass  # the queue does not exist yet, and reading it is permitted
        except ChannelPreconditionFailed as refused:
            if "x-priority" not in str(refused):
                raise

    async def prove_publishing(self) -> None:
        """Publish to a queue that does not exist, and expect the message back."""
        try:
            async with side_channel(self.connection, self._timeout, confirms=True) as channel:
                await channel.basic_publish(
                    b"", routing_key=f"regsvc.check.{uuid4()}", mandatory=True, timeout=self._timeout
                )
        except (DeliveryError, PublishError) as returned:
            if isinstance(returned, ChannelAccessRefused):
                raise
