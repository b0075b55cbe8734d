"""The sockets that a server listens on."""

from __future__ import annotations

import errno
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

BACKLOG = 1024
_UNIX = "unix:"
_UNIX_MODE = 0o660  # the group of the process is the proxy's
_EVERYWHERE = "*"


@contextmanager
def open_listeners(hosts: Sequence[str], port: int) -> Iterator[list[socket.socket]]:
    """Listen as long as the block lasts.

    Args:
        hosts: addresses, names (each of their addresses), `*` for every address, or `unix:/path`.
        port: of all but the Unix sockets; 0 for a free one, the same for all.

    Raises:
        OSError: one of them cannot be listened on.
    """
    with ExitStack() as stack:
        found: list[socket.socket] = []
        for host in hosts:
            if host.startswith(_UNIX):
                path = Path(host.removeprefix(_UNIX))
                found.append(stack.enter_context(_open_unix(path)))
                stack.callback(path.unlink, missing_ok=True)
                continue
            for address in _resolve(host):
                sock = stack.enter_context(_open(address, port))
                port = port or sock.getsockname()[1]
                found.append(sock)
        yield found


def name_address(sock: socket.socket) -> tuple[str, int]:
    """Return what a socket listens on, a Unix socket's path with port 0."""
    name = sock.getsockname()
    return (f"{_UNIX}{name}", 0) if sock.family == socket.AF_UNIX else (name[0], name[1])


def show_address(host: str, port: int) -> str:
    """Return an address as it is written in URLs and logs."""
    if host.startswith(_UNIX):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _resolve(host: str) -> list[str]:
    if host == _EVERYWHERE:
        return [_EVERYWHERE]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _open(address: str, port: int) -> socket.socket:
    if address == _EVERYWHERE:
        try:
            return _open("::", port)
        except OSError as error:
            if error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                raise
            return _open("0.0.0.0", port)  # noqa: S104 - a machine without IPv6
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    both = address == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((address, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)


def _open_unix(path: Path) -> socket.socket:
    """Listen on a path; what a process that is gone left there gives way."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_behind(path):
            path.unlink()
        sock.bind(str(path))
        path.chmod(_UNIX_MODE)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_left_behind(path: Path) -> bool:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.stat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                return True
    return False
