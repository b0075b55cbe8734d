from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
import trio

from regsvc.errors import BrokerUnavailableError
from regsvc.rabbitmq import PublishFailure, open_publisher
from tests.amqp import RawChannel
from tests.proxies import Proxy, Way
from tests.rabbitmq.conftest import QUEUE, consume, take

if TYPE_CHECKING:
    from tests.brokers import Broker

pytestmark = pytest.mark.timeout(60)  # hangs are what some of these tests are about


async def test_what_is_published_is_taken_once_and_gone_when_acknowledged(amqp_url: str) -> None:
    mails = [uuid4() for _ in range(3)]
    async with open_publisher(amqp_url) as publisher:
        assert publisher.messages_ready == 0
        result = await publisher.publish(mails)
        assert result.confirmed == tuple(mails)
        assert not result.failed
    async with consume(amqp_url) as consumer:
        assert consumer.messages_ready == 3
        for mail_id in mails:
            delivery = await anext(consumer)
            assert (delivery.mail_id, delivery.redelivered) == (mail_id, False)
            await delivery.ack()
    async with open_publisher(amqp_url) as publisher:
        assert publisher.messages_ready == 0


async def test_a_message_carries_the_id_and_nothing_else(amqp_url: str, raw: RawChannel) -> None:
    mail_id = uuid4()
    async with open_publisher(amqp_url) as publisher:
        await publisher.publish([mail_id])
        found = await raw.get(QUEUE)
    assert found is not None
    assert json.loads(found.body) == {"id": str(mail_id), "kind": "mail"}
    properties: dict[str, Any] = {name: value for name, value in found.header.properties if value}
    assert re.fullmatch(rf"00-{mail_id.hex}-[0-9a-f]{{16}}-00", properties.pop("headers")["traceparent"])
    assert properties == {
        "content_type": "application/json",
        "delivery_mode": 2,
        "message_id": str(mail_id),
        "message_type": "regsvc.mail.v1",
    }


async def test_a_thousand_ids_are_all_confirmed_and_doubles_go_once(amqp_url: str) -> None:
    mails = [uuid4() for _ in range(1000)]
    async with open_publisher(amqp_url) as publisher:
        result = await publisher.publish(mails + mails)
        assert result.confirmed == tuple(mails)
    async with consume(amqp_url, prefetch=100) as consumer:
        assert consumer.messages_ready == 1000
        assert await take(consumer, 1000) == mails


async def test_calls_at_once_take_turns(amqp_url: str) -> None:
    mails = [[uuid4() for _ in range(20)] for _ in range(5)]
    async with open_publisher(amqp_url) as publisher:
        async with trio.open_nursery() as nursery:
            for some in mails:
                nursery.start_soon(publisher.publish, some)
        assert (await publisher.publish([])).confirmed == ()
    async with consume(amqp_url) as consumer:
        assert Counter(await take(consumer, 100)) == Counter(mail_id for some in mails for mail_id in some)


async def test_a_publish_that_is_cancelled_leaves_the_publisher_usable(amqp_url: str) -> None:
    async with open_publisher(amqp_url) as publisher:
        for checkpoints in range(8):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publisher.publish, [uuid4() for _ in range(50)])
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        mails = [uuid4() for _ in range(50)]
        assert (await publisher.publish(mails)).confirmed == tuple(mails)


async def test_without_the_queue_publishing_says_so_and_ends(amqp_url: str, raw: RawChannel) -> None:
    mails = [uuid4() for _ in range(300)]
    async with open_publisher(amqp_url) as publisher:
        await raw.delete(QUEUE)
        result = await publisher.publish(mails)
        assert result.confirmed == ()
        assert set(result.failed) == set(mails)
        assert result.failed[mails[0]] is PublishFailure.RETURNED
        with pytest.raises(BrokerUnavailableError, match="queue email_confirm is gone"):
            await publisher.wait_closed()
        with pytest.raises(BrokerUnavailableError, match="queue email_confirm is gone"):
            await publisher.publish(mails)
    async with open_publisher(amqp_url) as publisher:  # declares it anew
        assert (await publisher.publish(mails)).confirmed == tuple(mails)


async def test_a_purged_or_deleted_queue_counts_as_empty_and_without_it_this_ends(
    amqp_url: str, raw: RawChannel
) -> None:
    mails = [uuid4() for _ in range(3)]
    async with open_publisher(amqp_url) as publisher:
        await publisher.publish(mails)
        assert await publisher.count_ready() == 3
        await raw.purge(QUEUE)
        assert await publisher.count_ready() == 0
        assert (await publisher.publish(mails)).confirmed == tuple(mails)
        await raw.delete(QUEUE)
        assert await publisher.count_ready() == 0
        with pytest.raises(BrokerUnavailableError, match="no queue"):
            await publisher.wait_closed()


async def test_a_break_while_publishing_leaves_the_rest_unanswered(
    amqp_url: str, proxy: Proxy, proxied_url: str
) -> None:
    mails = [uuid4() for _ in range(1000)]
    async with open_publisher(proxied_url) as publisher:
        proxy.trap(str(mails[600]).encode(), Way.UP, lambda: None, forward=False)
        result = await publisher.publish(mails)
    assert set(result.failed.values()) == {PublishFailure.UNANSWERED}
    assert {*result.confirmed, *result.failed} == set(mails)
    async with consume(amqp_url, prefetch=1000) as consumer:
        assert set(result.confirmed) <= set(await take(consumer, consumer.messages_ready))


async def test_a_publish_that_nobody_confirms_ends_the_publisher(proxy: Proxy, proxied_url: str) -> None:
    mail_id = uuid4()
    async with open_publisher(proxied_url, timeout=1) as publisher:
        proxy.black_hole = True
        assert (await publisher.publish([mail_id])).failed == {mail_id: PublishFailure.UNANSWERED}
        with pytest.raises(BrokerUnavailableError, match="no confirm within 1 s"):
            await publisher.wait_closed()


@pytest.mark.own_broker
async def test_a_memory_alarm_blocks_publishing_alone(amqp_url: str, rabbitmq: Broker) -> None:
    mails = [uuid4() for _ in range(300)]
    async with open_publisher(amqp_url) as publisher, consume(amqp_url) as consumer:
        await publisher.publish(mails[:1])
        await trio.to_thread.run_sync(rabbitmq.raise_memory_alarm)
        try:
            result = await publisher.publish(mails[1:])
            assert set(result.failed.values()) == {PublishFailure.BLOCKED}
            assert publisher.blocked
            assert (await publisher.publish(mails[1:2])).failed == {mails[1]: PublishFailure.BLOCKED}
            assert await take(consumer, 1) == mails[:1]
        finally:
            await trio.to_thread.run_sync(rabbitmq.clear_memory_alarm)
        await publisher.wait_unblocked()
        assert not publisher.blocked
        assert (await publisher.publish(mails[1:])).confirmed == tuple(mails[1:])
        taken: set[UUID] = set()
        while taken != set(mails[1:]):  # those of the first try may come, too
            taken.update(await take(consumer, 1))
