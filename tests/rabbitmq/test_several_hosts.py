"""Several URLs: the first server that lets us in is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import trio

from regsvc.errors import BrokerUnavailableError
from regsvc.rabbitmq import check_broker, mask_url, open_publisher
from tests.proxies import open_proxy
from tests.rabbitmq.conftest import address_of, at_port
from tests.suite.ports import take_port

if TYPE_CHECKING:
    from tests.proxies import Proxy

pytestmark = pytest.mark.timeout(60)


async def test_a_server_that_refuses_is_passed_over(amqp_url: str) -> None:
    nobody = at_port(amqp_url, take_port())
    mail_id = uuid4()
    async with open_publisher(f"{nobody} {amqp_url}") as publisher:
        assert (await publisher.publish([mail_id])).confirmed == (mail_id,)


async def test_a_server_that_falls_silent_hides_the_next_for_its_share_of_the_time(
    amqp_url: str, proxy: Proxy, proxied_url: str
) -> None:
    proxy.black_hole = True
    with trio.fail_after(20):
        async with open_publisher(f"{proxied_url}\n{amqp_url}", timeout=4) as publisher:
            assert (await publisher.publish([uuid4()])).failed == {}


async def test_when_none_lets_us_in_each_is_named(amqp_url: str) -> None:
    first, second = (at_port(amqp_url, port) for port in (take_port(), take_port()))
    with pytest.raises(BrokerUnavailableError) as caught:
        await check_broker(f"{first} {second}")
    for url in (first, second):
        assert f"RabbitMQ at 127.0.0.1:{address_of(url)[1]}:" in str(caught.value)


async def test_a_connection_that_is_lost_is_made_to_the_other_server(amqp_url: str) -> None:
    async with open_proxy(address_of(amqp_url)) as first, open_proxy(address_of(amqp_url)) as second:
        urls = " ".join(at_port(amqp_url, proxy.port) for proxy in (first, second))
        async with open_publisher(urls) as publisher:
            await first.refuse()
            first.reset()
            with pytest.raises(BrokerUnavailableError):
                await publisher.wait_closed()
        async with open_publisher(urls) as publisher:
            assert (await publisher.publish([uuid4()])).failed == {}


def test_shown_urls_have_no_password() -> None:
    shown = mask_url("amqp://a:first@one:5672/v amqps://b:second@two/v")
    assert shown == "amqp://a:***@one:5672/v amqps://b:***@two/v"
