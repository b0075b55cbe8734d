"""Events in RabbitMQ: a durable topic exchange, confirmed, declared anew when it is gone, and repeated by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import trio
from aiormq.abc import DeliveredMessage

from regsvc.accounts.events.replay import replay_since
from regsvc.accounts.events.sinks import end_unseen, note_exchange
from regsvc.consumer.events.exchange import run_event_exchange
from regsvc.errors import BrokerTopologyError, BrokerUnavailableError
from regsvc.postgres.pool import Pool
from tests.amqp import RawChannel, open_channel
from tests.events.happenings import SOURCE, add_user, change_user, read_rows

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def exchange() -> str:
    """A name that no other test has."""
    return f"regsvc.events.{uuid4()}"


@asynccontextmanager
async def publishing(pool: Pool, conninfo: str, url: str, exchange: str) -> AsyncIterator[None]:
    """Publish as long as the block lasts."""
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(
                run_event_exchange,
                pool=pool,
                conninfo=conninfo,
                url=url,
                exchange=exchange,
                source=SOURCE,
                stopping=stopping,
            )
        )
        yield
        stopping.set()


async def take(channel: RawChannel, queue: str) -> DeliveredMessage:
    """Wait for a message."""
    with trio.fail_after(20):
        while (message := await channel.get(queue)) is None:  # noqa: ASYNC110 - asked for one by one
            await trio.sleep(0.02)
    return message


async def wait_delivered(pool: Pool, number: int) -> None:
    """Wait until so many events are delivered."""
    with trio.fail_after(20):
        while await read_rows(  # noqa: ASYNC110 - rows of another task
            pool, "SELECT count(*) FROM event_deliveries WHERE state = 'delivered'"
        ) != [(number,)]:
            await trio.sleep(0.02)


async def test_an_event_is_published_by_its_type(
    pool: Pool, database: str, amqp_url: str, exchange: str
) -> None:
    async with open_channel(amqp_url) as channel, publishing(pool, database, amqp_url, exchange):
        queue = f"consumer.{exchange}"
        await channel.declare(queue)
        await channel.bind(queue, exchange, "user.*")
        user_id = await add_user(pool)
        message = await take(channel, queue)
        told = json.loads(message.body)
        assert told["data"] == {"user": str(user_id), "role": "user"}
        properties: dict[str, Any] = {name: value for name, value in message.header.properties if value}
        assert properties == {
            "content_type": "application/cloudevents+json",
            "delivery_mode": 2,
            "message_id": told["id"],
            "message_type": "user.created",
        }
        assert message.routing_key == "user.created"
        await wait_delivered(pool, 1)


async def test_what_no_queue_wants_counts_as_delivered_and_the_next_goes_on(
    pool: Pool, database: str, amqp_url: str, exchange: str
) -> None:
    async with publishing(pool, database, amqp_url, exchange):
        user_id = await add_user(pool)
        await wait_delivered(pool, 1)
        await change_user(pool, user_id, name="Bea")
        await wait_delivered(pool, 2)


async def test_events_of_one_subject_come_in_their_order(
    pool: Pool, database: str, amqp_url: str, exchange: str
) -> None:
    async with pool.connection() as conn:
        await note_exchange(conn, exchange)
    user_id = await add_user(pool)
    for number in range(20):
        await change_user(pool, user_id, name=f"Ann {number}")
    async with open_channel(amqp_url) as channel:
        queue = f"consumer.{exchange}"
        await channel.declare(queue)
        await channel.declare_exchange(exchange)
        await channel.bind(queue, exchange, "#")
        async with publishing(pool, database, amqp_url, exchange):
            await wait_delivered(pool, 21)
        times = [json.loads((await take(channel, queue)).body)["time"] for _ in range(21)]
    assert times == sorted(times)


async def test_an_exchange_that_was_deleted_is_declared_anew_and_nothing_is_lost(
    pool: Pool, database: str, amqp_url: str, exchange: str
) -> None:
    async with open_channel(amqp_url) as channel:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with publishing(pool, database, amqp_url, exchange):
                await channel.delete_exchange(exchange)
                user_id = await add_user(pool)
                await trio.sleep_forever()
        assert caught.group_contains(BrokerUnavailableError)
        async with publishing(pool, database, amqp_url, exchange):
            queue = f"consumer.{exchange}"
            await channel.declare(queue)
            await channel.bind(queue, exchange, "#")
            await wait_delivered(pool, 1)
            ((since,),) = await read_rows(pool, "SELECT min(at) FROM events")
            async with pool.connection() as conn:
                sink = await note_exchange(conn, exchange)
                assert await replay_since(conn, sink, since) == (1, None)
            while True:
                told = json.loads((await take(channel, queue)).body)
                if told["subject"] == f"user/{user_id}":
                    break


async def test_an_exchange_of_another_kind_is_named(
    pool: Pool, database: str, amqp_url: str, exchange: str
) -> None:
    async with open_channel(amqp_url) as channel:
        await channel.declare_exchange(exchange, kind="fanout")
        with pytest.raises(BaseExceptionGroup) as caught:
            async with publishing(pool, database, amqp_url, exchange):
                pass
        assert caught.group_contains(BrokerTopologyError, match="durable topic exchange")


async def test_an_exchange_that_no_process_has_any_more_gets_nothing(pool: Pool, exchange: str) -> None:
    async with pool.connection() as conn:
        await note_exchange(conn, exchange)
        assert await end_unseen(conn, 500) == 0
        await conn.execute("UPDATE event_sinks SET seen_at = seen_at - interval '8 days'")
        assert await end_unseen(conn, 500) == 1
    await add_user(pool)
    assert await read_rows(pool, "SELECT FROM events") == []
    async with pool.connection() as conn:
        await note_exchange(conn, exchange)
    await add_user(pool)
    assert len(await read_rows(pool, "SELECT FROM events")) == 1
