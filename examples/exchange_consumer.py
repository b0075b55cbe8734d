"""Consume regsvc's events from RabbitMQ: python exchange_consumer.py AMQP_URL EXCHANGE QUEUE [KEY]."""

from __future__ import annotations

import asyncio
import json
import sys

import aiormq
from aiormq.abc import DeliveredMessage

seen: set[str] = set()  # in a database, for a month


async def consume(url: str, exchange: str, queue: str, key: str) -> None:
    """Take events for ever. The queue is durable, so events wait in it while this program is away."""
    connection = await aiormq.connect(url)
    channel = await connection.channel()
    await channel.exchange_declare(exchange, exchange_type="topic", durable=True)
    await channel.queue_declare(queue, durable=True)
    await channel.queue_bind(queue, exchange, routing_key=key)
    await channel.basic_qos(prefetch_count=10)

    async def take(message: DeliveredMessage) -> None:
        event = json.loads(message.body)
        if event["id"] not in seen:
            seen.add(event["id"])
            print(event["type"], event["subject"], flush=True)
        assert message.delivery_tag is not None
        await channel.basic_ack(message.delivery_tag)

    await channel.basic_consume(queue, take)
    print("listening", flush=True)
    await connection.closing


if __name__ == "__main__":
    asyncio.run(consume(*sys.argv[1:4], sys.argv[4] if len(sys.argv) > 4 else "#"))  # type: ignore[call-arg]
