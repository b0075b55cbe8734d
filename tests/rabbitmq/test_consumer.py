from __future__ import annotations

import json
import struct
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from regsvc.errors import BrokerTopologyError, BrokerUnavailableError
from regsvc.rabbitmq import open_publisher
from tests.amqp import RawChannel
from tests.rabbitmq.conftest import DEAD, QUEUE, consume, publish_good, take

pytestmark = pytest.mark.timeout(60)  # hangs are what some of these tests are about

ID = "0b8f9a52-7e6c-4c39-9d3e-0c1f5a6d7e80"


async def test_a_deleted_queue_ends_its_consumer(amqp_url: str, raw: RawChannel) -> None:
    async with consume(amqp_url) as consumer, trio.open_nursery() as nursery:
        nursery.start_soon(raw.delete, QUEUE)
        with pytest.raises(BrokerUnavailableError, match="queue email_confirm is gone"):
            await anext(consumer)
        with pytest.raises(BrokerUnavailableError, match="queue email_confirm is gone"):
            await consumer.wait_closed()


async def test_rejecting_moves_to_the_dead_letters_and_requeueing_brings_it_again(
    amqp_url: str, raw: RawChannel
) -> None:
    rejected, requeued = uuid4(), uuid4()
    async with open_publisher(amqp_url) as publisher:
        await publisher.publish([rejected, requeued])
    async with consume(amqp_url) as consumer:
        first, second = [await anext(consumer), await anext(consumer)]
        await first.reject()
        await second.requeue()
        again = await anext(consumer)
        assert (again.mail_id, again.redelivered) == (requeued, True)
        await again.ack()
    dead = await raw.get(DEAD)
    assert dead is not None
    assert dead.header.properties.message_id == str(rejected)


async def test_what_is_not_settled_goes_back_when_the_consumer_ends(amqp_url: str) -> None:
    mails = [uuid4(), uuid4()]
    async with open_publisher(amqp_url) as publisher:
        await publisher.publish(mails)
    async with consume(amqp_url) as consumer:
        assert (await anext(consumer)).mail_id == mails[0]
    async with consume(amqp_url) as consumer:
        again = await anext(consumer)
        assert (again.mail_id, again.redelivered) == (mails[0], True)
        await consumer.ack([again, await anext(consumer)])


async def test_a_consumer_that_stops_takes_no_more_and_still_settles_what_it_has(amqp_url: str) -> None:
    first, second, third = uuid4(), uuid4(), uuid4()
    async with open_publisher(amqp_url) as publisher, consume(amqp_url) as stopped:
        await publisher.publish([first, second])
        received = await anext(stopped)
        for delivery in await stopped.stop():
            await delivery.requeue()
        await publisher.publish([third])
        async with consume(amqp_url) as other:
            others = {(await anext(other)).mail_id for _ in range(2)}
        assert others == {second, third}
        await received.ack()


GOOD: dict[str, Any] = {
    "content_type": "application/json",
    "message_type": "regsvc.mail.v1",
    "message_id": ID,
}
BODY = json.dumps({"id": ID, "kind": "mail"}).encode()


@pytest.mark.parametrize(
    ("why", "body", "properties"),
    [
        ("oversized", b" " * 1024 + BODY, GOOD),
        ("oversized", b"x" * 5_000_000, GOOD),
        ("wrong type", BODY, {"message_id": ID}),
        ("wrong type", BODY, {**GOOD, "message_type": "regsvc.mail.v2"}),
        ("wrong type", BODY, {**GOOD, "content_type": "text/plain"}),
        ("not JSON", b"", GOOD),
        ("not JSON", b"\xff", GOOD),
        ("not JSON", b"[" * 1024, GOOD),
        ("wrong fields", b"[]", GOOD),
        ("wrong fields", json.dumps({"id": ID}).encode(), GOOD),
        ("wrong id", json.dumps({"kind": "mail"}).encode(), GOOD),
        ("wrong id", json.dumps({"id": 7, "kind": "mail"}).encode(), GOOD),
        (
            "wrong id",
            json.dumps({"id": f"{{{ID}}}", "kind": "mail"}).encode(),
            {**GOOD, "message_id": f"{{{ID}}}"},
        ),
        ("wrong id", BODY, {**GOOD, "message_id": str(UUID(int=7))}),
    ],
)
async def test_a_malformed_message_is_dead_lettered_on_sight_and_stalls_nothing(
    amqp_url: str, raw: RawChannel, why: str, body: bytes, properties: dict[str, Any]
) -> None:
    seen: list[str] = []
    mail_id = uuid4()
    async with consume(amqp_url, on_malformed=seen.append) as consumer:
        await raw.publish(QUEUE, body, **properties)
        await publish_good(raw, mail_id)
        assert await take(consumer, 1) == [mail_id]
    assert seen == [why]
    dead = await raw.get(DEAD)
    assert dead is not None
    assert dead.body == body


@pytest.mark.parametrize(
    "properties",
    [
        struct.pack(">HB", 1 << 15, 2) + b"\xff\xfe",  # a content type that is not UTF-8
        struct.pack(">HQ", 1 << 6, 2**62),  # a timestamp in the year 146140482
    ],
)
async def test_properties_that_cannot_be_decoded_do_not_end_the_consumer(
    amqp_url: str, raw: RawChannel, properties: bytes
) -> None:
    seen: list[str] = []
    mail_id = uuid4()
    async with consume(amqp_url, on_malformed=seen.append) as consumer:
        await raw.publish_raw(QUEUE, BODY, properties)
        await publish_good(raw, mail_id)
        assert await take(consumer, 1) == [mail_id]
    assert seen == ["wrong type"]
    assert await raw.depth(DEAD) == 1


async def test_an_error_in_the_callback_for_malformed_messages_ends_the_consumer_and_is_seen(
    amqp_url: str, raw: RawChannel
) -> None:
    def fail(_why: str) -> None:
        raise LookupError("a bug")

    async with consume(amqp_url, on_malformed=fail) as consumer:
        await raw.publish(QUEUE, b"")
        with pytest.raises(BrokerUnavailableError, match="a bug"):
            await anext(consumer)


async def test_a_channel_closed_by_the_server_ends_its_consumer(amqp_url: str) -> None:
    async with open_publisher(amqp_url) as publisher, consume(amqp_url) as consumer:
        await publisher.publish([uuid4()])
        delivery = await anext(consumer)
        await delivery.ack()
        await delivery.ack()  # which the server takes for an error of the channel
        with pytest.raises(BrokerUnavailableError, match="unknown delivery tag") as raised:
            await anext(consumer)
        assert not isinstance(raised.value, BrokerTopologyError)
        with pytest.raises(BrokerUnavailableError):
            await delivery.ack()
