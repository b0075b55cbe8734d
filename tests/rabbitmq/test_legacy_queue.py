"""A queue that another system declared is consumed as it was found."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from regsvc.errors import BrokerUnavailableError
from regsvc.rabbitmq import check_legacy_queue, open_legacy_consumer
from tests.amqp import RawChannel

pytestmark = pytest.mark.timeout(60)  # hangs are what some of these tests are about

QUEUE = "confirmations"
consume = partial(open_legacy_consumer, queue=QUEUE, prefetch=10)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"durable": False}, {"x_queue_type": "quorum"}, {"x_max_length": 10}, {"x_max_priority": 3}],
)
async def test_messages_are_taken_whatever_the_queue_is_like(
    amqp_url: str, raw: RawChannel, arguments: dict[str, object]
) -> None:
    await raw.declare(QUEUE, **arguments)  # type: ignore[arg-type]  # some are of one type, some of another
    await check_legacy_queue(amqp_url, QUEUE)
    await raw.publish(QUEUE, b"one", message_id="1")
    await raw.publish_raw(QUEUE, b"two", b"\0\0")  # no properties at all
    async with consume(amqp_url) as consumer:
        first, second = await anext(consumer), await anext(consumer)
        assert [(m.body, m.message_id) for m in (first, second)] == [(b"one", "1"), (b"two", None)]
        await consumer.ack([first, second])
    assert await raw.depth(QUEUE) == 0


async def test_a_queue_that_is_not_there_is_not_declared(amqp_url: str, raw: RawChannel) -> None:
    for _ in range(2):
        with pytest.raises(BrokerUnavailableError, match=f"no queue '{QUEUE}'"):
            async with consume(amqp_url):
                pytest.fail("it opened")
        with pytest.raises(BrokerUnavailableError, match=f"no queue '{QUEUE}'"):
            await check_legacy_queue(amqp_url, QUEUE)


async def test_what_is_rejected_goes_where_that_queue_says_or_nowhere(amqp_url: str, raw: RawChannel) -> None:
    await raw.declare(QUEUE)
    await raw.declare("failed")
    await raw.declare("careful", x_dead_letter_exchange="", x_dead_letter_routing_key="failed")
    for queue in (QUEUE, "careful"):
        await raw.publish(queue, b"?")
        async with open_legacy_consumer(amqp_url, queue, prefetch=10) as consumer:
            await (await anext(consumer)).reject()
        assert await raw.depth(queue) == 0
    assert await raw.depth("failed") == 1


async def test_what_is_not_settled_goes_back(amqp_url: str, raw: RawChannel) -> None:
    await raw.declare(QUEUE)
    await raw.publish(QUEUE, b"one")
    async with consume(amqp_url) as consumer:
        assert not (await anext(consumer)).redelivered
    async with consume(amqp_url) as consumer:
        assert (await anext(consumer)).redelivered


async def test_a_queue_that_is_deleted_ends_its_consumer(amqp_url: str, raw: RawChannel) -> None:
    await raw.declare(QUEUE)
    async with consume(amqp_url) as consumer, trio.open_nursery() as nursery:
        nursery.start_soon(raw.delete, QUEUE)
        with pytest.raises(BrokerUnavailableError, match=f"queue {QUEUE} is gone"):
            await anext(consumer)
