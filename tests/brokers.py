"""The fixtures that give a test a RabbitMQ.

`rabbitmq` is a running broker that all tests share, also those of other processes; `amqp_url` is a virtual host of
its own for one test. A test that is marked `own_broker` stops, kills or blocks the broker: where tests run at the
same time it gets one that its process has for itself.

Where the broker comes from, in this order: the one that REGSVC_TEST_AMQP_URL names; a private node of the
`rabbitmq-server` installed here; Debian's package (installed when root); a container; else the test is
skipped, or fails with CI=true. A server that these tests did not start is never touched, but for this
project's two queues in the virtual host that the variable names, which are deleted before each test; tests that
use it run one at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, NoReturn

import pytest
import trio

from tests.amqp import open_channel
from tests.containers import ContainerBroker
from tests.nodes import PrivateBroker, find_epmd, find_scripts
from tests.suite.packages import do_without, install
from tests.suite.run import count_workers, name_worker, shared_folder

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
_SHARED = pytest.StashKey[Broker]()
_OWN = pytest.StashKey[PrivateBroker]()
_KINDS: dict[str, type[PrivateBroker]] = {"node": PrivateBroker, "container": ContainerBroker}
_DESCRIPTION = "rabbitmq.json"


async def _delete_queues(url: str) -> None:
    async with open_channel(url) as channel:
        for queue in ("email_confirm", "email_confirm.dead"):
            await channel.delete(queue)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests with a broker of their own the time that it takes to start."""
    for item in items:
        if item.get_closest_marker("own_broker"):
            item.add_marker(pytest.mark.timeout(240), append=False)


def prepare(config: pytest.Config) -> None:
    """Start the shared broker, in the process that outlives the tests: it boots while the first of them run."""
    if "REGSVC_TEST_AMQP_URL" in os.environ:
        return
    if not _installed():
        install(config, "rabbitmq-server")
    kind = "node" if _installed() else "container" if _has_docker() else None
    if kind is None:
        return
    broker = _KINDS[kind]()
    config.stash[_SHARED] = broker
    broker.launch()
    # Complete before any test runs.
    (shared_folder(config) / _DESCRIPTION).write_text(json.dumps({"kind": kind, **broker.describe()}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what this process started, also when the test that asked for it never ran."""
    stash = session.config.stash
    for broker in (stash.get(_OWN, None), stash.get(_SHARED, None)):
        if broker is not None:
            broker.close()


@pytest.fixture
def rabbitmq(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Broker]:
    """Give a running broker."""
    if given := os.environ.get("REGSVC_TEST_AMQP_URL"):
        with (shared_folder(pytestconfig) / "rabbitmq.turn").open("ab") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            yield GivenBroker(given)
        return
    own = request.node.get_closest_marker("own_broker") and count_workers(pytestconfig) > 1
    broker = _find_own(pytestconfig) if own else _find_shared(pytestconfig)
    broker.wait_ready()
    yield broker


@pytest.fixture
def amqp_url(rabbitmq: Broker) -> str:
    """Give the URL of a virtual host that has no queues and that no other test uses."""
    return rabbitmq.fresh_url()


def _find_shared(config: pytest.Config) -> Broker:
    if _SHARED not in config.stash:
        kind, description = _read_description(config)
        config.stash[_SHARED] = _KINDS[kind].attach(description, name_worker(config))
    return config.stash[_SHARED]


def _find_own(config: pytest.Config) -> PrivateBroker:
    if _OWN not in config.stash:
        kind, _ = _read_description(config)
        config.stash[_OWN] = _KINDS[kind]()
        config.stash[_OWN].launch()
    return config.stash[_OWN]


def _read_description(config: pytest.Config) -> tuple[str, dict[str, str]]:
    """Return what kind of broker the run has, and where; skip the test if there is none."""
    path = shared_folder(config) / _DESCRIPTION
    if not path.exists():
        do_without("no RabbitMQ here: install rabbitmq-server, start Docker, or set REGSVC_TEST_AMQP_URL")
    description: dict[str, str] = json.loads(path.read_text())
    return description.pop("kind"), description


def _has_docker() -> bool:
    return (
        shutil.which("docker") is not None
        and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    )


def _installed() -> bool:
    try:
        find_scripts()
        find_epmd()
    except FileNotFoundError:
        return False
    return True
