from __future__ import annotations

import re
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import trio
import trustme

from regsvc.errors import BrokerTopologyError, BrokerUnavailableError
from regsvc.rabbitmq import check_broker, mask_url, open_publisher
from tests.amqp import RawChannel
from tests.proxies import Proxy
from tests.rabbitmq.conftest import QUEUE, address_of, at_port, consume, take
from tests.suite.ports import take_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.brokers import Broker

pytestmark = pytest.mark.timeout(60)  # hangs are what some of these tests are about


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, r"another x-[a-z-]+: (none|classic) there, .* needed"),
        ({"durable": False}, r"another durable: false there, true needed"),
        ({"x_queue_type": "quorum", "x_delivery_limit": 7}, r"another x-de"),
    ],
)
async def test_a_queue_declared_otherwise_is_explained(
    amqp_url: str, raw: RawChannel, arguments: dict[str, Any], said: str
) -> None:
    await raw.declare(QUEUE, **arguments)
    for opened in (open_publisher(amqp_url), consume(amqp_url)):
        with pytest.raises(BrokerTopologyError, match=rf"the queue email_confirm in virtual host .*{said}"):
            async with opened:
                pytest.fail("it opened")


@pytest.mark.own_broker
async def test_connections_closed_by_the_server_end_both(amqp_url: str, rabbitmq: Broker) -> None:
    async with open_publisher(amqp_url) as publisher, consume(amqp_url) as consumer:
        await trio.to_thread.run_sync(rabbitmq.close_connections)
        with pytest.raises(BrokerUnavailableError, match="CONNECTION_FORCED"):
            await publisher.wait_closed()
        with pytest.raises(BrokerUnavailableError, match="CONNECTION_FORCED"):
            await anext(consumer)


@pytest.mark.parametrize("end", [Proxy.reset, Proxy.finish])
async def test_a_connection_that_breaks_ends_both(
    proxy: Proxy, proxied_url: str, end: Callable[[Proxy], None]
) -> None:
    async with open_publisher(proxied_url) as publisher, consume(proxied_url) as consumer:
        end(proxy)
        with pytest.raises(BrokerUnavailableError):
            await publisher.wait_closed()
        with pytest.raises(BrokerUnavailableError):
            await anext(consumer)
        with pytest.raises(BrokerUnavailableError):
            await publisher.publish([uuid4()])


async def test_a_black_hole_is_noticed_by_the_heartbeat(proxy: Proxy, proxied_url: str) -> None:
    async with (
        open_publisher(proxied_url, heartbeat=1) as publisher,
        consume(proxied_url, heartbeat=1) as consumer,
    ):
        proxy.black_hole = True
        with trio.fail_after(15):  # two heartbeats of 1 s, and a little
            with pytest.raises(BrokerUnavailableError):
                await publisher.wait_closed()
            with pytest.raises(BrokerUnavailableError):
                await anext(consumer)


async def test_leaving_a_silent_broker_takes_seconds_at_most(proxy: Proxy, proxied_url: str) -> None:
    async with open_publisher(proxied_url) as publisher, consume(proxied_url):
        proxy.black_hole = True
        with trio.move_on_after(0.5):
            await publisher.publish([uuid4()])
        left = trio.current_time()
    assert trio.current_time() - left < 10  # at most two seconds each, and much room


async def test_connecting_to_a_silent_broker_can_be_cancelled(proxy: Proxy, proxied_url: str) -> None:
    proxy.black_hole = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(check_broker, proxied_url)
        await proxy.wait_accepted(1)
        nursery.cancel_scope.cancel()


async def test_cancelling_inside_ends_both_quietly(amqp_url: str) -> None:
    with trio.CancelScope() as scope:
        async with open_publisher(amqp_url) as publisher, consume(amqp_url) as consumer:
            await publisher.publish([uuid4()])
            await anext(consumer)
            scope.cancel()
            await anext(consumer)
    assert scope.cancelled_caught


async def test_an_error_inside_comes_out_as_it_is(amqp_url: str) -> None:
    with pytest.raises(LookupError):
        async with open_publisher(amqp_url), consume(amqp_url):
            raise LookupError


@pytest.mark.own_broker
async def test_a_broker_that_was_killed_comes_back_with_what_it_confirmed(
    amqp_url: str, rabbitmq: Broker
) -> None:
    mail_id = uuid4()
    async with open_publisher(amqp_url) as publisher, consume(amqp_url) as consumer:
        await publisher.publish([mail_id])
        await anext(consumer)
        await trio.to_thread.run_sync(rabbitmq.flush)
        await trio.to_thread.run_sync(rabbitmq.kill)
        try:
            with pytest.raises(BrokerUnavailableError):
                await publisher.wait_closed()
            with pytest.raises(BrokerUnavailableError):
                await consumer.wait_closed()
            with pytest.raises(BrokerUnavailableError, match="RabbitMQ at 127"):
                await check_broker(amqp_url)
        finally:
            await trio.to_thread.run_sync(rabbitmq.start)
    async with consume(amqp_url) as consumer:
        assert await take(consumer, 1) == [mail_id]


async def test_a_check_reaches_the_broker_and_declares_nothing(amqp_url: str, raw: RawChannel) -> None:
    await check_broker(amqp_url)
    await raw.declare(QUEUE)  # which would fail had the check declared ours
    with pytest.raises(BrokerTopologyError):
        await check_broker(amqp_url)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.replace("guest:guest", "guest:wrong-secret"), "user or password refused"),
        (lambda url: re.sub(r"[^/]+$", "no%20such%20vhost", url), "virtual host no such vhost refused"),
        (lambda url: at_port(url, take_port()), "connect"),
        (lambda url: re.sub(r"@.*?:", "@no-such-host.invalid:", url), "no-such-host.invalid"),
    ],
)
async def test_what_is_wrong_with_a_connection_is_said_without_the_password(
    amqp_url: str, change: Callable[[str], str], said: str
) -> None:
    with pytest.raises(BrokerUnavailableError, match=said) as raised:
        await check_broker(change(amqp_url))
    assert "wrong-secret" not in str(raised.value)


async def _say(words: bytes, stream: trio.SocketStream) -> None:
    if words:
        await stream.send_all(words)
    await trio.sleep_forever()


@pytest.mark.parametrize(
    "words", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x01\0\0\0\0\0\x04\0\x0a\0\x0b\xce"]
)
async def test_a_server_that_speaks_no_amqp_is_given_up(nursery: trio.Nursery, words: bytes) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, partial(_say, words), [listener])
    port = listener.socket.getsockname()[1]
    with pytest.raises(BrokerUnavailableError):
        await check_broker(f"amqp://127.0.0.1:{port}/", timeout=1)


async def test_amqps_checks_the_certificate(amqp_url: str, nursery: trio.Nursery, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async def serve(encrypted: trio.SSLStream[trio.SocketStream]) -> None:
        async def pass_on(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
            while piece := await source.receive_some(65536):
                await sink.send_all(piece)
            pumps.cancel_scope.cancel()

        plain = await trio.open_tcp_stream(*address_of(amqp_url))
        try:
            async with plain, trio.open_nursery() as pumps:
                pumps.start_soon(pass_on, encrypted, plain)
                pumps.start_soon(pass_on, plain, encrypted)
        except* trio.BrokenResourceError:
            pass

    (listener,) = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, [listener])
    assert isinstance(listener.transport_listener, trio.SocketListener)
    url = at_port(amqp_url, listener.transport_listener.socket.getsockname()[1])
    url = url.replace("amqp:", "amqps:").replace("127.0.0.1", "localhost")
    with pytest.raises(BrokerUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        await check_broker(url)
    async with open_publisher(f"{url}?cafile={tmp_path}/ca.pem") as publisher:
        mail_id = uuid4()
        assert (await publisher.publish([mail_id])).confirmed == (mail_id,)


def test_a_shown_url_has_no_password_and_no_options() -> None:
    assert (
        mask_url("amqps://jane:s%2Fcret@mq.example:5671/a?keyfile=x") == "amqps://jane:***@mq.example:5671/a"
    )
    assert mask_url("amqp://mq.example") == "amqp://mq.example"
