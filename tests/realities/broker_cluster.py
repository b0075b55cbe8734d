"""A RabbitMQ cluster of three: whichever node is killed, no sign-up is lost and publishing goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.acceptance.test_faults_rabbitmq import make_sign_up, wait_arrival, wait_broker_used, wait_status
from tests.amqp import open_channel
from tests.programs import run_program, serve_environ, talk_to
from tests.realities.cluster import ClusterNode, run_cluster
from tests.smtp_servers import ScriptedServer
from tests.traffic import run_traffic

pytestmark = pytest.mark.timeout(600)

DEAD = "email_confirm.dead"
AGAIN = 10.0  # seconds after a node was killed until messages are published
SETTLED = 60.0  # seconds that a node has for being one of the cluster again


async def call(function: object, *arguments: str) -> None:
    assert callable(function)
    await trio.to_thread.run_sync(function, *arguments)


async def wait_joined(nodes: list[ClusterNode]) -> None:
    """Wait until every node counts and every quorum queue could lose one more."""
    for node in nodes:
        with trio.fail_after(SETTLED):
            while True:
                try:
                    await call(
                        node.ctl, "eval", "[] = rabbit_quorum_queue:list_with_minimum_quorum_for_cli()."
                    )
                    break
                except RuntimeError:
                    await trio.sleep(0.5)


async def test_any_node_may_be_killed(database: str, tmp_path: Path) -> None:
    """The one that the program is connected to, and the one that has the queue of dead letters, among them."""
    nodes: list[ClusterNode]
    with run_cluster() as nodes:
        async with ScriptedServer().running() as smtp:
            # The queue of dead letters lies on the last node, the program talks to the first.
            async with open_channel(nodes[-1].url()) as channel:
                await channel.declare(DEAD, x_queue_type="classic", x_max_length=10_000)
            urls = " ".join(node.url() for node in nodes)
            environ = serve_environ(database, tmp_path, amqp_url=urls, smtp_url=smtp.url)
            addresses: list[str] = []
            async with (
                run_program("serve", folder=tmp_path, environ=environ) as program,
                talk_to(program, tmp_path) as service,
            ):
                async with run_traffic({"register": make_sign_up(service, addresses)}) as traffic:
                    await wait_broker_used(program, service, smtp)
                    for node in nodes[::-1]:
                        await wait_joined(nodes)
                        await call(node.flush)
                        await call(node.kill)
                        killed_at = trio.current_time()
                        await wait_broker_used(program, service, smtp)
                        took = trio.current_time() - killed_at
                        print(f"node {nodes.index(node) + 1} killed: published again after {took:.1f} s")  # noqa: T201
                        assert took < AGAIN
                        await call(node.start)
                assert set(traffic.statuses()) == {201}
                for address in addresses:
                    await wait_arrival(smtp, address)
                recipients = [mail.recipient for mail in smtp.mails]
                print(f"{len(addresses)} sign-ups, {len(recipients)} mails")  # noqa: T201
                assert len(recipients) == len(set(recipients))
                await wait_status(service, "ok")
                assert program.events("dead letter queue unavailable")
                program.check_log()
