"""What a user may do, and what the operator declared, decide whether mails go; `regsvc check` says the same."""

from __future__ import annotations

import re
import secrets
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import trio

from regsvc.errors import BrokerTopologyError, BrokerUnavailableError
from regsvc.rabbitmq import check_broker, check_dead_letter_queue, open_publisher, queues
from tests.amqp import open_channel
from tests.rabbitmq.conftest import DEAD, QUEUE, consume, take

if TYPE_CHECKING:
    from tests.amqp import RawChannel
    from tests.brokers import Broker

pytestmark = pytest.mark.timeout(60)

OURS = "^email_confirm(\\.dead)?$"
PUBLISH = "^amq\\.default$"


async def limit(rabbitmq: Broker, url: str, *rights: str) -> str:
    """Return the URL with a user who has these rights alone: to configure, write and read."""
    vhost, user = url.rpartition("/")[2], f"limited-{secrets.token_hex(6)}"
    ctl = partial(trio.to_thread.run_sync, rabbitmq.ctl)
    await ctl("add_user", user, "a-password")
    await ctl("set_permissions", "-p", vhost, user, *rights)
    return url.replace("guest:guest", f"{user}:a-password")


async def declare_ours(raw: RawChannel) -> None:
    for queue, arguments in queues.ARGUMENTS.items():
        named: dict[str, Any] = {name.replace("-", "_"): value for name, value in arguments.items()}
        await raw.declare(queue, **named)


@pytest.mark.parametrize(
    ("queue", "arguments", "said"),
    [
        (QUEUE, {"x_queue_type": "classic"}, "another x-queue-type: classic there, quorum needed"),
        (QUEUE, {}, "another x-queue-type: .* there, quorum needed"),
        (QUEUE, {"x_message_ttl": 1000}, "another x-"),
        (QUEUE, {"durable": False}, "another durable"),
        (DEAD, {"x_max_length": 5}, "another x-max-length: 5 there, 10000 needed"),
        (DEAD, {"x_queue_type": "quorum"}, "another x-queue-type: quorum there, classic needed"),
    ],
)
async def test_a_check_finds_a_queue_that_is_declared_otherwise(
    amqp_url: str, raw: RawChannel, queue: str, arguments: dict[str, Any], said: str
) -> None:
    await raw.declare(queue, **arguments)
    check = check_broker if queue == QUEUE else check_dead_letter_queue
    with pytest.raises(BrokerTopologyError, match=f"the queue {queue} in virtual host .*{said}"):
        await check(amqp_url)


@pytest.mark.parametrize("there", ["queues there", "no queues"])
@pytest.mark.parametrize(
    ("rights", "said"),
    [
        (("^$", PUBLISH, OURS), "'email_confirm'"),
        ((OURS, "^$", OURS), "'amq.default'"),
        ((OURS, PUBLISH, "^$"), "'email_confirm'"),
    ],
    ids=["configure", "write", "read"],
)
async def test_a_check_finds_a_right_that_is_missing(
    amqp_url: str, rabbitmq: Broker, rights: tuple[str, str, str], said: str, there: str
) -> None:
    if there == "queues there":
        async with open_channel(amqp_url) as raw:
            await declare_ours(raw)
    url = await limit(rabbitmq, amqp_url, *rights)
    if there == "queues there" and rights[0] == "^$":  # the operator's queues: nothing is to be declared
        await check_broker(url)
        return
    with pytest.raises(BrokerTopologyError, match=f"{said} .*refused for user 'limited-"):
        await check_broker(url)


async def test_a_check_leaves_nothing_behind(amqp_url: str, raw: RawChannel, rabbitmq: Broker) -> None:
    """Neither queues where there were none, nor messages, nor a delivery of what waits."""
    vhost = amqp_url.rpartition("/")[2]
    await check_broker(amqp_url)
    await check_dead_letter_queue(amqp_url)
    assert await trio.to_thread.run_sync(rabbitmq.ctl, "list_queues", "-p", vhost, "name") == ""
    mail_id = uuid4()
    async with open_publisher(amqp_url) as publisher:
        assert (await publisher.publish([mail_id])).confirmed == (mail_id,)
    await check_broker(amqp_url)
    async with consume(amqp_url) as consumer:
        delivery = await anext(consumer)
        assert delivery.mail_id == mail_id
        assert not delivery.redelivered


async def test_the_rights_that_the_docs_name_are_enough(
    amqp_url: str, rabbitmq: Broker, pytestconfig: pytest.Config
) -> None:
    docs = (pytestconfig.rootpath / "docs" / "operations.md").read_text()
    (rights,) = re.findall(r"set_permissions -p \S+ \S+ '(\S+)' '(\S+)' '(\S+)'", docs)
    url = await limit(rabbitmq, amqp_url, *rights)
    await check_broker(url)
    await check_dead_letter_queue(url)
    mail_id = uuid4()
    async with open_publisher(url) as publisher, consume(url) as consumer:
        assert (await publisher.publish([mail_id])).confirmed == (mail_id,)
        assert await take(consumer, 1) == [mail_id]
        assert await publisher.count_dead_letters() == 0


async def test_queues_of_the_operator_are_taken_as_they_are(
    amqp_url: str, raw: RawChannel, rabbitmq: Broker
) -> None:
    """A user who may configure nothing publishes and consumes all the same."""
    await declare_ours(raw)
    url = await limit(rabbitmq, amqp_url, "^$", PUBLISH, OURS)
    mail_id = uuid4()
    async with open_publisher(url) as publisher, consume(url) as consumer:
        assert (await publisher.publish([mail_id])).confirmed == (mail_id,)
        assert await take(consumer, 1) == [mail_id]


@pytest.mark.parametrize("hindrance", ["declared otherwise", "another connection's", "no right"])
async def test_what_only_catches_dead_letters_holds_up_nothing(
    amqp_url: str, raw: RawChannel, rabbitmq: Broker, hindrance: str
) -> None:
    url = amqp_url
    if hindrance == "declared otherwise":
        await raw.declare(DEAD, x_message_ttl=1000)
    elif hindrance == "another connection's":
        await raw.declare(DEAD, durable=False, exclusive=True)
    else:
        url = await limit(rabbitmq, amqp_url, "^email_confirm$", "^amq\\.default$", "^email_confirm$")
    mail_id = uuid4()
    async with open_publisher(url) as publisher, consume(url) as consumer:
        assert (await publisher.publish([mail_id])).confirmed == (mail_id,)
        assert await take(consumer, 1) == [mail_id]
        with pytest.raises(BrokerUnavailableError):
            await publisher.count_dead_letters()
        other = uuid4()
        assert (await publisher.publish([other])).confirmed == (other,)
        assert await take(consumer, 1) == [other]
