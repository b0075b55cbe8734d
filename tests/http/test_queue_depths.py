"""How much waits in RabbitMQ, as metrics and the console tell it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from tests.amqp import open_channel
from tests.brokers import Broker
from tests.databases import run_sql
from tests.services import PASSWORD, Service, run_test_service

QUEUES = ("email_confirm", "email_confirm.dead")


async def wait_depths(service: Service, *depths: int | None) -> None:
    """Wait until the metrics have these depths, of both queues; None is no line at all."""
    with trio.fail_after(30):
        while True:
            text = (await service.client.get("/metrics")).text
            found = dict(
                re.findall(r'^regsvc_queue_messages{queue="([^"]+)"} ([0-9.]+)$', text, re.MULTILINE)
            )
            if [None if queue not in found else float(found[queue]) for queue in QUEUES] == list(depths):
                return
            await trio.sleep(0.1)


@pytest.mark.own_broker
async def test_what_waits_in_the_broker_is_told_and_unknown_when_it_is_gone(
    database: str, rabbitmq: Broker, amqp_url: str, tmp_path: Path
) -> None:
    async with run_test_service(database, tmp_path, {"REGSVC_AMQP_URL": amqp_url}) as service:
        await service.confirm()
        await trio.to_thread.run_sync(run_sql, database, "UPDATE users SET role = 'admin'")
        await service.client.post(
            "/login",
            data={"email": "ann@example.com", "password": PASSWORD},
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        await wait_depths(service, 0, 0)
        async with open_channel(amqp_url) as channel:
            await channel.publish(QUEUES[0], b"nonsense")
        await wait_depths(service, 0, 1)
        console = (await service.client.get("/admin")).text
        assert re.findall(r"<dt>(email_confirm\S*)</dt><dd>(\w+)</dd>", console) == [
            ("email_confirm", "0"),
            ("email_confirm.dead", "1"),
        ]
        await trio.to_thread.run_sync(rabbitmq.kill)
        try:
            await wait_depths(service, None, None)
            console = (await service.client.get("/admin")).text
            assert re.findall(r"<dt>email_confirm\S*</dt><dd>(\w+)</dd>", console) == ["unknown", "unknown"]
        finally:
            await trio.to_thread.run_sync(rabbitmq.start)
