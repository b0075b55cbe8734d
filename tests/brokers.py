"""The fixtures that give a test a RabbitMQ.

`rabbitmq` is the running broker, once a session; `amqp_url` is a virtual host of its own for one test. Where
the broker comes from, in this order: the one that REGSVC_TEST_AMQP_URL names; a private node of the
`rabbitmq-server` installed here; Debian's package (installed when root); a container; else the test is
skipped, or fails with CI=true. A server that these tests did not start is never touched, but for this
project's two queues in the virtual host that the variable names, which are deleted before each test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
import trio

from tests.amqp import open_channel
from tests.containers import ContainerBroker
from tests.nodes import PrivateBroker, find_epmd, find_scripts

if TYPE_CHECKING:
    from collections.abc import Iterator


class GivenBroker:
    """The broker that REGSVC_TEST_AMQP_URL names: spoken to, never started, stopped or reconfigured."""

    def __init__(self, url: str) -> None:
        self._url = url

    def fresh_url(self) -> str:
        """Delete this project's two queues in the given virtual host, and return its URL."""
        trio.run(_delete_queues, self._url)
        return self._url

    def url(self, vhost: str = "/") -> NoReturn:
        """Skip the test that asks for more than the one virtual host."""
        self.ctl(vhost)

    def ctl(self, *_: str) -> NoReturn:
        """Skip the test that asks for more than a connection."""
        pytest.skip("the broker of REGSVC_TEST_AMQP_URL is not this test's to control")

    start = stop = kill = flush = close_connections = raise_memory_alarm = clear_memory_alarm = ctl

    def wait_ready(self) -> None:
        """Return: it was there before."""

    def close(self) -> None:
        """Leave it as it is."""


Broker = PrivateBroker | GivenBroker
BROKER = pytest.StashKey[Broker]()


async def _delete_queues(url: str) -> None:
    async with open_channel(url) as channel:
        for queue in ("email_confirm", "email_confirm.dead"):
            await channel.delete(queue)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the node early: it boots for some six seconds, while other tests run."""
    wanted = any("rabbitmq" in getattr(item, "fixturenames", ()) for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    if given := os.environ.get("REGSVC_TEST_AMQP_URL"):
        session.config.stash[BROKER] = GivenBroker(given)
    elif _installed():
        _launch(session.config, PrivateBroker())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what was started, also when the test that asked for it never ran."""
    if broker := session.config.stash.get(BROKER, None):
        broker.close()


@pytest.fixture(scope="session")
def rabbitmq(pytestconfig: pytest.Config) -> Broker:
    """Give the running broker of this test session."""
    broker = pytestconfig.stash.get(BROKER, None)
    if broker is None:
        broker = _launch(pytestconfig, _provide())
    broker.wait_ready()
    return broker


@pytest.fixture
def amqp_url(rabbitmq: Broker) -> str:
    """Give the URL of a virtual host that has no queues and that no other test uses."""
    return rabbitmq.fresh_url()


def _launch(config: pytest.Config, broker: PrivateBroker) -> Broker:
    config.stash[BROKER] = broker
    broker.launch()
    return broker


def _provide() -> PrivateBroker:
    """Get hold of a RabbitMQ where none is installed."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        with _no_service_starts():
            install = "apt-get install -y --no-install-recommends rabbitmq-server"
            subprocess.run(
                ["sh", "-c", f"{install} || {{ apt-get update && {install}; }}"],
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=600,
                check=False,
            )
        if _installed():
            return PrivateBroker()
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    ):
        return ContainerBroker()
    reason = "no RabbitMQ here: install rabbitmq-server, start Docker, or set REGSVC_TEST_AMQP_URL"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep packages from starting services while they are installed (Debian Policy, invoke-rc.d)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _installed() -> bool:
    try:
        find_scripts()
        find_epmd()
    except FileNotFoundError:
        return False
    return True
