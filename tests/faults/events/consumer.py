"""A consumer of the exchange: a durable queue of its own, read in its order."""

from __future__ import annotations

import trio
from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from tests.amqp import open_channel
from tests.faults.events.books import EXCHANGE, Books

NAME = "regsvc.events"  # of the exchange
QUEUE = "consumer.events"
_PAUSE = 0.05  # seconds between looks at an empty queue, and before the next connection


async def consume(url: str, books: Books, *, task_status: trio.TaskStatus[None]) -> None:
    """Note what the exchange brings until cancelled; connect and declare again whenever the broker was away."""
    while True:
        try:
            async with open_channel(url) as channel:
                await channel.declare_exchange(NAME)
                await channel.declare(QUEUE)
                await channel.bind(QUEUE, NAME, "#")
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                while True:
                    message = await channel.hold(QUEUE)
                    if message is None:
                        await trio.sleep(_PAUSE)
                        continue
                    event_id = message.header.properties.message_id or ""
                    books.note(EXCHANGE, event_id, message.body)
                    await channel.acknowledge(message)
        except* (AMQPError, ChannelInvalidStateError, OSError, TimeoutError):
            await trio.sleep(_PAUSE)
