"""While the system that this one replaces still takes sign-ups, its messages become mails here."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client import REGISTRY

from regsvc.postgres.pool import Pool
from tests.amqp import RawChannel, open_channel
from tests.programs import run_program, serve_environ
from tests.proxies import open_proxy
from tests.rabbitmq.conftest import address_of, at_port
from tests.services import Service, run_test_service
from tests.smtp_servers import Hold, ScriptedServer

QUEUE = "email_queue"  # of the original: durable, classic, without a place for dead letters
OURS = ("email_confirm", "email_confirm.dead")
TOKEN = "8f14e45f-ceea-467a-9575-1f0d2a1b3c4d"


def legacy_settings(url: str, queue: str = QUEUE) -> dict[str, str]:
    return {
        "REGSVC_ACCEPT_FOREIGN_MAIL": "on",
        "REGSVC_FOREIGN_AMQP_URL": url,
        "REGSVC_FOREIGN_QUEUE": queue,
    }


def make_message(address: str = "ann@example.com", token: str = TOKEN) -> bytes:
    return json.dumps({"email": address, "confirmation_token": token}).encode()


@pytest.fixture
async def raw(amqp_url: str) -> AsyncIterator[RawChannel]:
    async with open_channel(amqp_url) as channel:
        await channel.declare(QUEUE)
        yield channel


async def wait_empty(raw: RawChannel, queue: str = QUEUE) -> None:
    with trio.fail_after(20):
        while await raw.depth(queue):  # noqa: ASYNC110 - the broker has no event for it
            await trio.sleep(0.05)


async def child_of(service: Service) -> dict[str, Any]:
    children: dict[str, dict[str, Any]] = (await service.client.get("/readyz")).json()["children"]
    return children["foreign"]


async def wait_child(service: Service, state: str) -> dict[str, Any]:
    with trio.fail_after(20):
        while True:
            child = await child_of(service)
            if child["state"] == state:
                return child
            await trio.sleep(0.05)


def count_messages(outcome: str) -> float:
    """Return how many messages came to that in this process so far."""
    return REGISTRY.get_sample_value("regsvc_foreign_messages_total", {"outcome": outcome}) or 0


@pytest.mark.parametrize("way", ["through rabbitmq", "through postgresql"])
async def test_a_message_becomes_a_mail_whose_link_has_its_token(
    database: str, tmp_path: Path, amqp_url: str, raw: RawChannel, way: str
) -> None:
    """On the same broker our own queue is used as ever, and that system's stays as it was declared."""
    environ = legacy_settings(amqp_url)
    if way == "through rabbitmq":
        environ["REGSVC_AMQP_URL"] = amqp_url
    async with run_test_service(database, tmp_path, environ) as service:
        await raw.publish(QUEUE, make_message(), message_id="1")
        mail = await service.wait_mail()
        assert mail.token == TOKEN
        assert f"{service.url}/confirm#t={TOKEN}" in mail.text.splitlines()
        assert mail.message["To"] == "ann@example.com"
        await wait_empty(raw)
        answer = await service.post("/confirm-email", {"token": TOKEN})
        assert (answer.status_code, answer.json()["code"]) == (400, "token_invalid")
        await service.confirm("bob@example.com")
    await raw.declare(QUEUE)  # raises unless it is as it was
    if way == "through rabbitmq":
        assert [await raw.depth(queue) for queue in OURS] == [0, 0]


async def test_without_the_switch_nothing_is_taken(
    database: str, tmp_path: Path, amqp_url: str, raw: RawChannel
) -> None:
    await raw.publish(QUEUE, make_message())
    environ = legacy_settings(amqp_url) | {"REGSVC_ACCEPT_FOREIGN_MAIL": "off"}
    async with run_test_service(database, tmp_path, environ) as service:
        await service.confirm("bob@example.com")
        assert "foreign" not in (await service.client.get("/readyz")).json()["children"]
    assert await raw.depth(QUEUE) == 1


async def test_a_message_that_comes_many_times_is_one_mail(
    database: str, tmp_path: Path, amqp_url: str, raw: RawChannel
) -> None:
    async with run_test_service(database, tmp_path, legacy_settings(amqp_url)) as service:
        taken, known = count_messages("taken"), count_messages("known")
        for _ in range(50):
            await raw.publish(QUEUE, make_message(), message_id="1")
            await raw.publish_raw(QUEUE, make_message("bob@example.com"), b"\0\0")  # without an id
        await raw.publish(QUEUE, make_message("carl@example.com"), message_id="2")
        for address in ("ann@example.com", "bob@example.com", "carl@example.com"):
            await service.wait_mail(address)
        await wait_empty(raw)
        for address in ("ann@example.com", "bob@example.com", "carl@example.com"):
            assert len(service.mails(address)) == 1
        assert count_messages("taken") == taken + 3
        assert count_messages("known") == known + 98


BAD = [
    b"",
    b"not JSON",
    b"x" * 100_000,
    b'{"email": "ann@example.com"}',
    make_message("nobody"),
    make_message(token="../../etc/passwd"),
    make_message(token="t" * 513),
]


@pytest.mark.parametrize("careful", [False, True])
async def test_what_cannot_be_read_is_rejected_and_holds_nothing_up(
    database: str, tmp_path: Path, amqp_url: str, raw: RawChannel, *, careful: bool
) -> None:
    """It goes where that queue sends what is rejected, which may be nowhere."""
    queue = "careful" if careful else QUEUE
    if careful:
        await raw.declare("failed")
        await raw.declare(queue, x_dead_letter_exchange="", x_dead_letter_routing_key="failed")
    for body in BAD:
        await raw.publish(queue, body)
    rejected = count_messages("rejected")
    async with run_test_service(database, tmp_path, legacy_settings(amqp_url, queue)) as service:
        await raw.publish(queue, make_message())
        await service.wait_mail()
        await wait_empty(raw, queue)
        assert count_messages("rejected") == rejected + len(BAD)
        assert (await child_of(service))["failures"] == 0
    if careful:
        assert await raw.depth("failed") == len(BAD)


async def test_a_worker_that_is_killed_loses_no_message_and_its_successor_mails_each_once(
    database: str, pool: Pool, tmp_path: Path, amqp_url: str, raw: RawChannel
) -> None:
    addresses = [f"user{n}@example.com" for n in range(30)]
    for n, address in enumerate(addresses[:20]):
        await raw.publish(QUEUE, make_message(address, f"token-{n}"))
    never = trio.Event()
    script = {"DATA": Hold(never)}
    async with ScriptedServer(script).running() as smtp:
        environ = serve_environ(database, tmp_path, smtp_url=smtp.url) | legacy_settings(amqp_url)
        async with run_program(
            "serve", "--role", "worker", folder=tmp_path, environ=environ, ready=False
        ) as worker:
            with trio.fail_after(30):
                await smtp.wait(lambda: smtp.said("DATA") > 0)
            worker.process.send_signal(signal.SIGKILL)
            await worker.process.wait()
        script.clear()
        for n, address in enumerate(addresses[20:], 20):
            await raw.publish(QUEUE, make_message(address, f"token-{n}"))
        async with pool.connection() as conn:
            await conn.execute("UPDATE mails SET due_at = now()")  # rather than wait for the leases
        async with run_program("serve", "--role", "worker", folder=tmp_path, environ=environ) as worker:
            mails = await smtp.wait_mails(30)
            await wait_empty(raw)
            assert await worker.stop() == 0
            worker.check_log()
            assert "token-" not in worker.log()
    assert sorted(mail.recipient for mail in mails) == sorted(addresses)


async def test_while_that_broker_is_away_all_else_goes_on_and_when_it_is_back_its_messages_are_taken(
    database: str, tmp_path: Path, amqp_url: str, raw: RawChannel
) -> None:
    async with open_proxy(address_of(amqp_url)) as proxy:
        environ = legacy_settings(at_port(amqp_url, proxy.port)) | {"REGSVC_AMQP_URL": amqp_url}
        async with run_test_service(database, tmp_path, environ) as service:
            await wait_child(service, "running")
            await proxy.refuse()
            proxy.reset()
            child = await wait_child(service, "waiting")
            assert "RabbitMQ at 127.0.0.1" in child["last_error"]
            assert (await service.client.get("/readyz")).json()["status"] == "degraded"
            await service.confirm("bob@example.com")
            await raw.publish(QUEUE, make_message())
            await proxy.listen()
            assert (await service.wait_mail()).token == TOKEN


async def test_a_queue_that_is_not_there_yet_is_waited_for(
    database: str, tmp_path: Path, amqp_url: str, raw: RawChannel
) -> None:
    async with run_test_service(database, tmp_path, legacy_settings(amqp_url, "late")) as service:
        child = await wait_child(service, "waiting")
        assert "no queue 'late'" in child["last_error"]
        await service.confirm("bob@example.com")
        await raw.declare("late")
        await raw.publish("late", make_message())
        await service.wait_mail()


async def test_check_looks_for_that_queue(
    database: str, tmp_path: Path, amqp_url: str, raw: RawChannel
) -> None:
    for queue, code in ((QUEUE, 0), ("nowhere", 1)):
        environ = serve_environ(database, tmp_path) | legacy_settings(amqp_url, queue)
        async with run_program("check", folder=tmp_path, environ=environ, ready=False) as program:
            with trio.fail_after(60):
                assert await program.process.wait() == code
            assert ("no queue 'nowhere'" in program.log()) == bool(code)
            assert "foreign rabbitmq" in program.log()
