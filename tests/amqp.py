"""AMQP without regsvc, for tests that look at the broker or do to it what regsvc would never do."""

from __future__ import annotations

import struct
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import aiormq
import trio
from aiormq.abc import ChannelFrame
from pamqp import commands, frame
from pamqp.body import ContentBody

from regsvc.rabbitmq.loop import open_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiormq.abc import DeliveredMessage
    from aiormq.channel import Channel

SECONDS = 10


class RawChannel:
    """One channel with publisher confirms; every method is Trio flavour."""

    def __init__(self, channel: Channel, call: Callable[..., Any]) -> None:
        self._channel = channel
        self._call = call

    async def declare(
        self, queue: str, *, durable: bool = True, exclusive: bool = False, **arguments: Any
    ) -> None:
        """Declare a queue; `x_queue_type="quorum"` becomes the argument `x-queue-type`."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        await self._call(
            self._channel.queue_declare,
            queue,
            durable=durable,
            exclusive=exclusive,
            arguments=named,
            timeout=SECONDS,
        )

    async def declare_exchange(self, exchange: str, *, kind: str = "topic") -> None:
        """Declare a durable exchange."""
        await self._call(
            self._channel.exchange_declare, exchange, exchange_type=kind, durable=True, timeout=SECONDS
        )

    async def delete_exchange(self, exchange: str) -> None:
        """Delete an exchange."""
        await self._call(self._channel.exchange_delete, exchange, timeout=SECONDS)

    async def bind(self, queue: str, exchange: str, key: str) -> None:
        """Bind a queue to an exchange."""
        await self._call(self._channel.queue_bind, queue, exchange, routing_key=key, timeout=SECONDS)

    async def depth(self, queue: str) -> int:
        """Return how many messages are ready in the queue."""
        declared = await self._call(self._channel.queue_declare, queue, passive=True, timeout=SECONDS)
        return declared.message_count or 0

    async def publish(self, queue: str, body: bytes, **properties: Any) -> None:
        """Publish anything and wait for its confirm."""
        await self._call(
            self._channel.basic_publish,
            body,
            routing_key=queue,
            properties=commands.Basic.Properties(**{"delivery_mode": 2, **properties}),
            mandatory=True,
            timeout=SECONDS,
        )

    async def publish_raw(self, queue: str, body: bytes, properties: bytes) -> None:
        """Publish a message with properties (flags and fields) that no library writes, and wait for its confirm."""
        number = self._channel.number
        self._channel.delivery_tag += 1
        confirm = self._channel.create_future()
        self._channel.confirmations[self._channel.delivery_tag] = confirm
        header = struct.pack(">HHQ", commands.Basic.frame_id, 0, len(body)) + properties
        frames = (
            frame.marshal(commands.Basic.Publish(routing_key=queue), number),
            struct.pack(">BHI", 2, number, len(header)) + header + b"\xce",
            frame.marshal(ContentBody(body), number),
        )
        await self._call(self._channel.write_queue.put, ChannelFrame(b"".join(frames), should_close=False))

    async def get(self, queue: str) -> DeliveredMessage | None:
        """Take and acknowledge one message; None when there is none."""
        message = await self._call(self._channel.basic_get, queue, no_ack=True, timeout=SECONDS)
        return None if isinstance(message.delivery, commands.Basic.GetEmpty) else message

    async def hold(self, queue: str) -> DeliveredMessage | None:
        """Take one message without acknowledging it; None when there is none."""
        message = await self._call(self._channel.basic_get, queue, timeout=SECONDS)
        return None if isinstance(message.delivery, commands.Basic.GetEmpty) else message

    async def acknowledge(self, message: DeliveredMessage) -> None:
        """Acknowledge a message that is held."""
        assert isinstance(message.delivery, commands.Basic.GetOk)
        await self._call(self._channel.basic_ack, message.delivery.delivery_tag)

    async def delete(self, queue: str) -> None:
        """Delete the queue with all that is in it; nothing happens when there is none."""
        await self._call(self._channel.queue_delete, queue, timeout=SECONDS)

    async def purge(self, queue: str) -> None:
        """Drop every ready message of the queue."""
        await self._call(self._channel.queue_purge, queue, timeout=SECONDS)


@asynccontextmanager
async def open_channel(url: str) -> AsyncIterator[RawChannel]:
    """Open a connection of its own with one channel (Trio flavour)."""
    async with open_loop() as loop:

        async def call(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
            return await loop.run(partial(function, *args, **options))

        connection = await call(aiormq.connect, url)
        try:
            yield RawChannel(await call(connection.channel, timeout=SECONDS), call)
        finally:
            with trio.CancelScope(shield=True):
                await call(connection.close)
