"""The broker is away, comes back, or lost everything: no sign-up notices, and mail goes past it for as long."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trio

from tests.amqp import open_channel
from tests.brokers import Broker
from tests.databases import run_sql
from tests.polling import wait_until
from tests.programs import Program, run_program, serve_environ, talk_to
from tests.proxies import Proxy, open_proxy
from tests.services import PASSWORD, Service
from tests.smtp_servers import Hold, ScriptedServer
from tests.traffic import Call, run_traffic

QUEUE = "email_confirm"
MISSED = 10.0  # seconds without a broker after which mail goes past it
PROMISED = 5.0  # seconds after its return until it is used again
LOST = 30.0  # seconds until what was in a queue that is gone has been mailed all the same
BUSY = 5.0  # seconds more that a machine with much else to do may take


def port_of(url: str) -> int:
    """Return the port that a broker's URL names."""
    return int(re.findall(r":(\d+)/", url)[0])


@dataclass(frozen=True)
class BadNetwork:
    """A broker, and the way to it that the program takes.

    Args:
        direct: the broker's URL.
        proxy: what lies between.
    """

    direct: str
    proxy: Proxy

    @property
    def url(self) -> str:
        """The URL by way of the proxy."""
        return self.direct.replace(f":{port_of(self.direct)}/", f":{self.proxy.port}/")


@pytest.fixture
async def network(amqp_url: str) -> AsyncIterator[BadNetwork]:
    """A bad network between the program and a broker."""
    async with open_proxy(("127.0.0.1", port_of(amqp_url))) as proxy:
        yield BadNetwork(amqp_url, proxy)


@pytest.fixture
async def smtp() -> AsyncIterator[ScriptedServer]:
    """A mail server that takes everything."""
    async with ScriptedServer().running() as smtp:
        yield smtp


async def wait_arrival(smtp: ScriptedServer, address: str) -> None:
    """Wait until somebody has been mailed."""
    await wait_until(lambda: any(mail.recipient == address for mail in smtp.mails), seconds=LOST)


def make_sign_up(service: Service, addresses: list[str]) -> Call:
    """Return a call that signs somebody new up, and notes who."""

    async def sign_up() -> httpx.Response:
        address = f"{uuid4()}@example.com"
        answer = await service.post("/register", {"email": address, "password": PASSWORD, "name": "Ann"})
        addresses.append(address)
        return answer

    return sign_up


async def wait_broker_used(program: Program, service: Service, smtp: ScriptedServer) -> None:
    """Make sure that mail goes through the broker soon, from now on."""
    with trio.fail_after(PROMISED + BUSY):
        address = f"{uuid4()}@example.com"
        await service.sign_up(address)
        mail_id = program.events("mail queued")[-1]["mail"]
        await wait_until(lambda: any(line["mail"] == mail_id for line in program.events("mail published")))
        # Published and not brought by the broker, it would wait for minutes.
        await wait_arrival(smtp, address)


async def wait_status(service: Service, status: str) -> dict[str, dict[str, object]]:
    """Wait until `/readyz` says `ok` or `degraded`, never 503, and return how the children are."""
    with trio.fail_after(20):
        while True:
            ready = await service.client.get("/readyz")
            assert ready.status_code == 200, ready.text
            children: dict[str, dict[str, object]] = ready.json()["children"]
            assert children["http"]["state"] == "running"
            if ready.json()["status"] == status:
                return children
            await trio.sleep(0.05)


async def test_absent_at_start_mail_goes_past_it_and_through_it_once_it_is_there(
    database: str, network: BadNetwork, smtp: ScriptedServer, tmp_path: Path
) -> None:
    await network.proxy.refuse()
    environ = serve_environ(database, tmp_path, amqp_url=network.url, smtp_url=smtp.url)
    async with (
        run_program("serve", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        began = trio.current_time()
        await service.sign_up()
        children = await wait_status(service, "degraded")
        assert {name for name, child in children.items() if child["state"] != "running"} <= {
            "relay",
            "subscriber",
        }
        await wait_until(lambda: smtp.mails, seconds=MISSED + PROMISED + BUSY)
        assert trio.current_time() - began > MISSED - 1
        assert program.events("mail published") == []
        # However long it is away, nobody waits longer than this for the next look.
        assert max(line["next_try_in"] for line in program.events("child failed")) <= 2.0
        await network.proxy.listen()
        await wait_broker_used(program, service, smtp)
        await wait_status(service, "ok")
        program.check_log()


async def test_what_ends_consuming_is_over_in_seconds_and_costs_no_sign_up(
    database: str, rabbitmq: Broker, network: BadNetwork, smtp: ScriptedServer, tmp_path: Path
) -> None:
    async def delete_queue() -> None:
        async with open_channel(network.direct) as channel:
            await channel.delete(QUEUE)

    async def reset_connections() -> None:
        network.proxy.reset()

    close_connections = partial(trio.to_thread.run_sync, rabbitmq.close_connections)
    environ = serve_environ(database, tmp_path, amqp_url=network.url, smtp_url=smtp.url)
    addresses: list[str] = []
    async with (
        run_program("serve", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        async with run_traffic({"register": make_sign_up(service, addresses)}) as traffic:
            await wait_broker_used(program, service, smtp)
            for strike in (close_connections, delete_queue, reset_connections):
                await strike()
                await wait_broker_used(program, service, smtp)
        assert set(traffic.statuses()) == {201}
        for address in addresses:
            await wait_arrival(smtp, address)
        recipients = [mail.recipient for mail in smtp.mails]
        assert len(recipients) == len(set(recipients))
        await wait_status(service, "ok")
        program.check_log()


async def test_a_mail_server_that_keeps_a_mail_waiting_keeps_nobody_from_consuming(
    database: str, network: BadNetwork, tmp_path: Path
) -> None:
    answer = trio.Event()
    async with ScriptedServer({"DOT": [Hold(answer)]}).running() as smtp:
        environ = serve_environ(database, tmp_path, amqp_url=network.url, smtp_url=smtp.url)
        async with (
            run_program("serve", folder=tmp_path, environ=environ) as program,
            talk_to(program, tmp_path) as service,
        ):
            await service.sign_up("slow@example.com")
            await smtp.wait(lambda: "DOT" in smtp.steps)
            await wait_broker_used(program, service, smtp)
            network.proxy.reset()
            await wait_broker_used(program, service, smtp)
            assert [mail.recipient for mail in smtp.mails].count("slow@example.com") == 0
            answer.set()
            await wait_arrival(smtp, "slow@example.com")
            await wait_status(service, "ok")
            recipients = [mail.recipient for mail in smtp.mails]
            assert len(recipients) == len(set(recipients))
            program.check_log()


@pytest.mark.own_broker
async def test_a_broker_that_is_killed_costs_no_sign_up_and_is_used_again_once_it_is_back(
    database: str, rabbitmq: Broker, amqp_url: str, smtp: ScriptedServer, tmp_path: Path
) -> None:
    environ = serve_environ(database, tmp_path, amqp_url=amqp_url, smtp_url=smtp.url)
    addresses: list[str] = []
    async with (
        run_program("serve", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        async with run_traffic({"register": make_sign_up(service, addresses)}) as traffic:
            await wait_broker_used(program, service, smtp)
            await trio.to_thread.run_sync(rabbitmq.flush)
            await trio.to_thread.run_sync(rabbitmq.kill)
            try:
                await wait_status(service, "degraded")
            finally:
                await trio.to_thread.run_sync(rabbitmq.start)
            await wait_broker_used(program, service, smtp)
        assert set(traffic.statuses()) == {201}
        for address in addresses:
            await wait_arrival(smtp, address)
        recipients = [mail.recipient for mail in smtp.mails]
        assert len(recipients) == len(set(recipients))
        await wait_status(service, "ok")
        program.check_log()


async def test_messages_that_were_purged_cost_no_mail(database: str, amqp_url: str, tmp_path: Path) -> None:
    """Of a long line some are in hand, and the rest nowhere but in the database."""
    ready = trio.Event()
    people = {f"user{number}@example.com" for number in range(30)}
    async with ScriptedServer({"greeting": Hold(ready)}).running() as smtp:
        environ = serve_environ(database, tmp_path, amqp_url=amqp_url, smtp_url=smtp.url, smtp_sessions="1")
        async with (
            run_program("serve", folder=tmp_path, environ=environ) as program,
            talk_to(program, tmp_path) as service,
        ):
            async with trio.open_nursery() as nursery:
                for address in people:
                    nursery.start_soon(service.sign_up, address)
            await wait_until(lambda: len(program.events("mail published")) == len(people))
            async with open_channel(amqp_url) as channel:
                assert await channel.depth(QUEUE) > 0
                await channel.purge(QUEUE)
            ready.set()
            await wait_until(lambda: len(smtp.mails) >= len(people), seconds=30)
            assert {mail.recipient for mail in smtp.mails} == people
            assert len(smtp.mails) == len(people)
            assert program.events("queue found empty")
            program.check_log()


async def test_a_malformed_message_among_a_thousand_costs_nobody_a_mail(
    database: str, amqp_url: str, smtp: ScriptedServer, tmp_path: Path
) -> None:
    environ = serve_environ(database, tmp_path, amqp_url=amqp_url, smtp_url=smtp.url)
    async with run_program("serve", folder=tmp_path, environ=environ) as program:
        await program.wait_ready()
        async with open_channel(amqp_url) as channel, trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, run_sql, database, _DUE_MAILS)
            await channel.publish(QUEUE, b"{nonsense")
        await wait_until(lambda: len(smtp.mails) >= 999, seconds=60)
        async with open_channel(amqp_url) as channel:
            assert await channel.depth(f"{QUEUE}.dead") == 1
            assert await channel.depth(QUEUE) == 0
        assert len({mail.recipient for mail in smtp.mails}) == len(smtp.mails) == 999
        assert program.events("child failed") == []
        program.check_log()


_DUE_MAILS = """
    WITH people AS (
        INSERT INTO registrations (id, email, email_key, name, locale, password_hash, origin, client)
        SELECT gen_random_uuid(), format('user%s@example.com', n), format('user%s@example.com', n),
               'Ann', 'en', 'none', '192.0.2.0/24', 'curl'
          FROM generate_series(1, 999) n
        RETURNING id
    )
    INSERT INTO mails (id, registration_id, kind) SELECT gen_random_uuid(), id, 'signup' FROM people
"""


async def test_with_broker_and_mail_server_away_everybody_is_taken_and_mailed_once_both_are_back(
    database: str, network: BadNetwork, smtp: ScriptedServer, tmp_path: Path
) -> None:
    people = {f"user{number}@example.com" for number in range(8)}  # too few to open the breaker
    async with open_proxy(("127.0.0.1", smtp.port)) as mail_proxy:
        await network.proxy.refuse()
        await mail_proxy.refuse()
        mail_url = f"smtp://127.0.0.1:{mail_proxy.port}"
        environ = serve_environ(database, tmp_path, amqp_url=network.url, smtp_url=mail_url)
        async with (
            run_program("serve", folder=tmp_path, environ=environ) as program,
            talk_to(program, tmp_path) as service,
        ):
            async with trio.open_nursery() as nursery:
                for address in people:
                    nursery.start_soon(service.sign_up, address)
            await program.wait_log("mail delayed")
            assert smtp.mails == []
            await mail_proxy.listen()
            await network.proxy.listen()
            await wait_until(lambda: len(smtp.mails) >= len(people), seconds=60)
            assert {mail.recipient for mail in smtp.mails} == people
            assert len(smtp.mails) == len(people)
            program.check_log()


async def test_a_queue_declared_otherwise_is_explained_and_takes_nothing_down(
    database: str, amqp_url: str, smtp: ScriptedServer, tmp_path: Path
) -> None:
    environ = serve_environ(database, tmp_path, amqp_url=amqp_url, smtp_url=smtp.url)
    async with open_channel(amqp_url) as channel:
        await channel.declare(QUEUE)
        async with (
            run_program("serve", folder=tmp_path, environ=environ) as program,
            talk_to(program, tmp_path) as service,
        ):
            await service.sign_up()
            children = await wait_status(service, "degraded")
            for name in ("relay", "subscriber"):
                assert f"{QUEUE} in virtual host" in str(children[name]["last_error"])
                assert any(
                    line["child"] == name and "delete that queue" in line["error"]
                    for line in program.events("child failed")
                )
            await channel.delete(QUEUE)
            await wait_broker_used(program, service, smtp)
            await wait_arrival(smtp, "ann@example.com")
            program.check_log()


async def test_a_queue_of_dead_letters_that_is_in_the_way_holds_up_no_mail(
    database: str, amqp_url: str, smtp: ScriptedServer, tmp_path: Path
) -> None:
    environ = serve_environ(database, tmp_path, amqp_url=amqp_url, smtp_url=smtp.url)
    async with open_channel(amqp_url) as channel:
        await channel.declare(f"{QUEUE}.dead", x_message_ttl=1000)
        async with (
            run_program("serve", folder=tmp_path, environ=environ) as program,
            talk_to(program, tmp_path) as service,
        ):
            await wait_broker_used(program, service, smtp)
            await program.wait_log("dead letter queue unavailable")
            (said,) = program.events("dead letter queue unavailable")
            assert f"{QUEUE}.dead in virtual host" in said["why"]
            await wait_status(service, "ok")
            assert program.events("child failed") == []
            program.check_log()
