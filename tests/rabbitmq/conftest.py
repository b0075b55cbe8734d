"""What the RabbitMQ tests share: a look past regsvc, and a bad network."""

from __future__ import annotations

import gc
import json
import re
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from regsvc.rabbitmq import Consumer, open_consumer
from tests.amqp import RawChannel, open_channel
from tests.proxies import Proxy, open_proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

QUEUE = "email_confirm"
DEAD = "email_confirm.dead"

consume = partial(open_consumer, prefetch=10, on_malformed=lambda _: None)


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """What asyncio says of tasks and transports that nobody closed it says when they are collected: an error."""
    yield
    gc.collect()


@pytest.fixture
async def raw(amqp_url: str) -> AsyncIterator[RawChannel]:
    async with open_channel(amqp_url) as channel:
        yield channel


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[Proxy]:
    async with open_proxy(address_of(amqp_url)) as proxy:
        yield proxy


@pytest.fixture
def proxied_url(amqp_url: str, proxy: Proxy) -> str:
    return at_port(amqp_url, proxy.port)


def address_of(url: str) -> tuple[str, int]:
    """Return where the broker listens."""
    return "127.0.0.1", int(re.findall(r":(\d+)/", url)[0])


def at_port(url: str, port: int) -> str:
    """Change the port that a URL names."""
    return re.sub(r":\d+/", f":{port}/", url)


async def take(consumer: Consumer, count: int) -> list[UUID]:
    """Receive and acknowledge that many."""
    taken: list[UUID] = []
    while len(taken) < count:
        batch = await consumer.receive(count - len(taken))
        await consumer.ack(batch)
        taken += [delivery.mail_id for delivery in batch]
    return taken


async def publish_good(raw: RawChannel, mail_id: UUID) -> None:
    await raw.publish(
        QUEUE,
        json.dumps({"id": str(mail_id), "kind": "mail"}).encode(),
        content_type="application/json",
        message_type="regsvc.mail.v1",
        message_id=str(mail_id),
    )
