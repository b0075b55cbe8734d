"""A RabbitMQ cluster of three nodes on this machine, any of which can be killed and started."""

from __future__ import annotations

import secrets
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from tests.nodes import PrivateBroker

if TYPE_CHECKING:
    from collections.abc import Iterator


class ClusterNode(PrivateBroker):
    """A node that shares its epmd and cookie with the others."""

    def join(self, first: PrivateBroker, cookie: str) -> None:
        """Take the first node's epmd, before this one is started; the first joins itself."""
        path = self._directory / ".erlang.cookie"
        path.write_text(cookie)
        path.chmod(0o400)
        self._owns_epmd = first is self
        if not self._owns_epmd:
            self._epmd_port, self._epmd = first._epmd_port, first._epmd

    @property
    def name(self) -> str:
        """What the other nodes call it."""
        return f"regsvc-{self.port}@localhost"

    def close(self) -> None:
        """End the node and remove its directory; the epmd ends with the first alone."""
        if not self._owns_epmd:
            self._epmd = None
        super().close()


@contextmanager
def run_cluster(nodes: int = 3) -> Iterator[list[ClusterNode]]:
    """Run a cluster as long as the block lasts, the node with the epmd first."""
    cookie = secrets.token_hex(20)
    with ExitStack() as stack:
        first = ClusterNode()
        first.join(first, cookie)
        stack.enter_context(first)
        started = [first]
        for _ in range(nodes - 1):
            node = ClusterNode()
            node.join(first, cookie)
            stack.enter_context(node)
            node.ctl("stop_app")
            node.ctl("join_cluster", first.name)
            node.ctl("start_app")
            node.wait_ready()
            started.append(node)
        yield started
