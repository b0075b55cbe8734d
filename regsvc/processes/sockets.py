"""The sockets that several processes listen on.

Where the kernel spreads connections over the sockets of one port (SO_REUSEPORT of Linux), each process has one of its
own: it belongs to the port from the moment that the process listens, until the process is gone. Elsewhere, and for
Unix sockets, all processes accept from one socket.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from regsvc.errors import RegsvcError
from regsvc.processes.listeners import BACKLOG, open_listeners, show_address


class CannotListenError(RegsvcError):
    """The addresses of the service cannot be listened on."""


class Bound:
    """The addresses, held by the supervisor for as long as it runs.

    Args:
        shared: sockets that all processes accept from.
        spread: sockets that hold a port for others that the kernel spreads its connections over.
    """

    def __init__(self, shared: Sequence[socket.socket], spread: Sequence[socket.socket]) -> None:
        self._shared = tuple(shared)
        self._spread = tuple(spread)

    @contextmanager
    def handing(self) -> Iterator[list[tuple[int, bool]]]:
        """Yield descriptors for one process, each with whether others accept from it, too.

        What is its own is closed here behind the block: the kernel sends no connection to a process that is gone.
        """
        with ExitStack() as stack:
            own = [stack.enter_context(_bind_beside(sock)) for sock in self._spread]
            yield [
                *((sock.fileno(), True) for sock in self._shared),
                *((sock.fileno(), False) for sock in own),
            ]


@contextmanager
def bind(hosts: Sequence[str], port: int) -> Iterator[Bound]:
    """Hold the addresses of the service for as long as the block lasts.

    Args:
        hosts: as `open_listeners` takes them.
        port: of all but the Unix sockets; 0 for a free one, the same for all.

    Raises:
        CannotListenError: one of them cannot be listened on.
    """
    with ExitStack() as stack:
        try:
            # First as one process would: a port that another program listens on is refused.
            sockets = stack.enter_context(open_listeners(hosts, port))
            spread = [sock for sock in sockets if _spreads(sock)]
            held = [stack.enter_context(_hold_instead(sock)) for sock in spread]
        except OSError as error:
            where = ", ".join(show_address(host, port) for host in hosts)
            raise CannotListenError(f"cannot listen on {where}: {error.strerror}") from error
        yield Bound([sock for sock in sockets if sock not in spread], held)


class Handed:
    """The sockets that the supervisor handed to this process.

    Args:
        descriptors: from `Bound.handing`.
    """

    def __init__(self, descriptors: Sequence[tuple[int, bool]]) -> None:
        self._sockets = [(socket.socket(fileno=number), shared) for number, shared in descriptors]

    @contextmanager
    def open(self) -> Iterator[list[socket.socket]]:
        """Listen for as long as the block lasts. The addresses stay this process's for another life of its server."""
        with ExitStack() as stack:
            found = []
            for sock, _ in self._sockets:
                sock.listen(BACKLOG)
                found.append(stack.enter_context(sock.dup()))
            yield found

    def retire(self) -> None:
        """Stop the kernel from sending this process connections: it accepts none until its end."""
        for sock, shared in self._sockets:
            if not shared:
                sock.close()


def _spreads(sock: socket.socket) -> bool:
    return sys.platform == "linux" and sock.family != socket.AF_UNIX


def _hold_instead(sock: socket.socket) -> socket.socket:
    """Replace a listening socket by one that only holds its address, and lets others have it, too."""
    held = _open_beside(sock)
    address = sock.getsockname()
    sock.close()
    return _bind_to(held, address)


def _bind_beside(held: socket.socket) -> socket.socket:
    return _bind_to(_open_beside(held), held.getsockname())


def _open_beside(sock: socket.socket) -> socket.socket:
    """Return a socket like another one, for the same address."""
    found = socket.socket(sock.family, socket.SOCK_STREAM)
    if sock.family == socket.AF_INET6:
        only_6 = sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_6)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return found


def _bind_to(sock: socket.socket, address: object) -> socket.socket:
    try:
        sock.bind(address)  # type: ignore[arg-type]  # of the family of the socket that it is from
    except OSError:
        sock.close()
        raise
    return sock
