"""The service manager that started this program, such as systemd: told when it is ready, stopping and alive.

The protocol of sd_notify(3): a datagram to the Unix socket that NOTIFY_SOCKET names. With a watchdog the manager ends
a program that it has not heard from for a while, and starts it again: a stuck event loop feeds no watchdog.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog
import trio

log = structlog.get_logger()

_FEEDS = 3.0  # in the time after which the manager would end the program


@dataclass(frozen=True)
class ServiceManager:
    """Where to reach the service manager.

    Args:
        address: of its socket; `@` begins an abstract one. None if no manager listens.
        watchdog: seconds after which it ends a program that does not report; None for never.
    """

    address: str | None = None
    watchdog: float | None = None

    def tell(self, state: str) -> None:
        """Send a state, such as `READY=1`. A manager that does not read misses it."""
        if self.address is None:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.settimeout(0)
            sock.connect(name)
            sock.send(state.encode())

    async def feed(self, alive: Callable[[], bool] = lambda: True) -> None:
        """Feed the watchdog until cancelled, while `alive` returns true. Returns at once where there is none.

        Args:
            alive: whether the program does its work.
        """
        if self.watchdog is None:
            return
        while True:
            if alive():
                self.tell("WATCHDOG=1")
            await trio.sleep(self.watchdog / _FEEDS)
