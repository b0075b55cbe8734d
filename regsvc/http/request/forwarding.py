"""Forwarding headers: the client's address behind trusted proxies, or that it cannot be told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, Literal, get_args

import structlog

from regsvc.logs import client_prefix

log = structlog.get_logger()

IPAddress = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Trouble = Literal["unreadable", "untrusted"]

# A request that has one of these went through a proxy. Their values are only read if that proxy is trusted.
_HEADERS: Final = frozenset(
    {
        "forwarded",
        "via",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-server",
        "x-real-ip",
    }
)
# `192.0.2.1:4711`, `[2001:db8::1]` and `[2001:db8::1]:4711`, as Azure, IIS and others write them.
_WITH_PORT: Final = re.compile(r"\[([^\]\s]+)\](?::\d{1,5})?|([0-9.]+):\d{1,5}")


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request came from.

    Args:
        address: of the client; None if it cannot be told, or has none (a Unix socket).
        trouble: why the forwarding headers were not believed; such a client is never an operator.
    """

    address: IPAddress | None
    trouble: Trouble | None = None


def find_client(
    peer: str | None, names: Iterable[str], forwarded: Iterable[str], trusted: Iterable[Network]
) -> Client:
    """Return the client of a request, believing `X-Forwarded-For` as far as trusted proxies wrote it.

    An entry that cannot be read makes the client unknown: falling back to the proxy's own address would give
    strangers its rights. Other forwarding headers without an entry have the same effect: the request came through the
    proxy, and nothing says from which client. Empty list elements are skipped (RFC 9110, 5.6.1).

    Args:
        peer: the address at the other end of the connection; anything else for a Unix socket, whose peers are
            believed: they may open a file that the operator gave them.
        names: of the request's headers.
        forwarded: the values of its `X-Forwarded-For`, in order.
        trusted: the networks of the proxies.
    """
    networks = tuple(trusted)
    address = _parse(peer or "")
    given = _HEADERS.intersection(name.lower() for name in names)
    if address is not None and not _is_in(address, networks):
        return Client(address, "untrusted" if given else None)
    hops = list(_read_hops(",".join(forwarded)))
    if not hops and given - {"x-forwarded-for"}:
        return Client(None, "unreadable")
    for hop in hops:
        address = _parse(hop)
        if address is None:
            return Client(None, "unreadable")
        if not _is_in(address, networks):
            break
    return Client(address)


@dataclass
class ForwardingTroubles:
    """What was wrong with forwarding headers since the process started; each kind is logged once."""

    seen: set[Trouble] = field(default_factory=set)

    def summary(self) -> Literal["ok", Trouble]:
        """Return the worst of them, or `ok`."""
        return next((trouble for trouble in get_args(Trouble) if trouble in self.seen), "ok")

    def note(self, client: Client, peer: str | None) -> None:
        """Remember and log a trouble that the operator can mend.

        Strangers on the Internet may send any header. A private address that does is probably an unlisted proxy.
        """
        if client.trouble is None or client.trouble in self.seen:
            return
        if client.trouble == "unreadable":
            log.warning(
                "forwarding header not readable", peer=client_prefix(peer or ""), effect="client unknown"
            )
        elif client.address is not None and client.address.is_private:
            log.warning(
                "forwarding header not believed",
                peer=client_prefix(peer or ""),
                remedy="list the proxy in REGSVC_TRUSTED_PROXIES",
            )
        else:
            return
        self.seen.add(client.trouble)


def _read_hops(value: str) -> Iterator[str]:
    """Yield the entries of a list from the right."""
    while value:
        value, _, hop = value.rpartition(",")
        if hop := hop.strip(" \t"):
            yield hop


@lru_cache(maxsize=4096)
def _parse(text: str) -> IPAddress | None:
    match = _WITH_PORT.fullmatch(text)
    try:
        address = ip_address((match[1] or match[2]) if match else text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_in(address: IPAddress, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)
