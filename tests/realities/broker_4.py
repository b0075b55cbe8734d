"""RabbitMQ 4, from the Debian that has it, in a folder of its own: what the suite asks of 3.10 holds there too."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.nodes import GREETING, wait_port
from tests.suite.ports import take_port

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(1800)

CHECKOUT = Path(__file__).parents[2]
ROOT = CHECKOUT / "build" / "debian-13"
# Those of queues of another system leave theirs in the one virtual host.
TESTS = ("link", "publisher", "consumer", "dead_letters", "rights", "several_hosts")
START = """
export HOME=/root/{port} RABBITMQ_NODENAME=r{port}@localhost RABBITMQ_CONF_ENV_FILE=/dev/null LANG=C.UTF-8
export RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT={port} RABBITMQ_DIST_PORT={dist}
export ERL_EPMD_PORT={epmd} ERL_EPMD_ADDRESS=127.0.0.1
export RABBITMQ_MNESIA_BASE=$HOME/data RABBITMQ_LOG_BASE=$HOME/log RABBITMQ_ENABLED_PLUGINS_FILE=$HOME/plugins
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {{127,0,0,1}}'
mkdir -p $HOME; echo '[].' >$HOME/plugins
exec /usr/lib/rabbitmq/bin/rabbitmq-server
"""


@pytest.fixture(scope="module")
def root() -> Path:
    """A Debian with RabbitMQ 4, made the first time."""
    if os.geteuid() or not shutil.which("debootstrap"):
        pytest.skip("needs debootstrap, as root")
    if not (ROOT / "usr/lib/rabbitmq/bin/rabbitmq-server").exists():
        shutil.rmtree(ROOT, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", "trixie", str(ROOT)], check=True)
        (ROOT / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
        (ROOT / "usr/sbin/policy-rc.d").chmod(0o755)
        install = "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends rabbitmq-server"
        subprocess.run(["chroot", str(ROOT), "sh", "-c", install], check=True)
    return ROOT


@contextmanager
def run_broker(root: Path) -> Iterator[str]:
    """Run a node in that Debian, and give the URL of its first virtual host."""
    port = take_port()
    script = START.format(port=port, dist=take_port(), epmd=take_port())
    node = subprocess.Popen(["chroot", str(root), "sh", "-c", script], start_new_session=True)
    try:
        wait_port(port, node, GREETING)
        yield f"amqp://guest:guest@127.0.0.1:{port}/%2F"
    finally:
        os.killpg(node.pid, signal.SIGTERM)
        node.wait(60)


def test_what_holds_on_3_10_holds_on_4(root: Path) -> None:
    files = [str(CHECKOUT / "tests" / "rabbitmq" / f"test_{name}.py") for name in TESTS]
    with run_broker(root) as url:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
            cwd=CHECKOUT,
            env={**os.environ, "REGSVC_TEST_AMQP_URL": url},
            check=False,
        )
    assert done.returncode == 0
