"""How many connections each peer of the server holds, so that none holds them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

LOOPBACK: Sequence[Network] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_SUBSCRIBER = 64  # bits of an IPv6 address that one subscriber's devices share
_SITE = 48  # bits that a site shares, which has 65,536 such networks


class Peers:
    """Count the connections of each peer: an IPv4 address, or the /64 of an IPv6 address.

    Args:
        most: connections of one peer at the same time. All peers of one IPv6 /48 may hold half as many again.
        spared: networks that are not counted: proxies speak for many clients.
    """

    def __init__(self, most: int, spared: Sequence[Network]) -> None:
        self._most = most
        self._most_of_site = (3 * most + 1) // 2
        self._spared = tuple(spared)
        self._counts: Counter[Network] = Counter()

    def enter(self, host: str) -> Network | None:
        """Count one more connection.

        Args:
            host: the peer's address; anything else, such as a Unix socket's path, is not counted.

        Returns:
            What `leave` takes; None if the peer is not counted.

        Raises:
            CrowdedError: the peer holds its share already.
        """
        address = _parse(host)
        if address is None or any(address in network for network in self._spared):
            return None
        peer: Network
        if isinstance(address, IPv6Address):
            peer = IPv6Network((int(address), _SUBSCRIBER), strict=False)
        else:
            peer = IPv4Network(address)
        site = _find_site(peer)
        if self._counts[peer] >= self._most or (site and self._counts[site] >= self._most_of_site):
            raise CrowdedError
        self._counts[peer] += 1
        if site:
            self._counts[site] += 1
        return peer

    def leave(self, peer: Network | None) -> None:
        """Forget one connection that `enter` counted."""
        if peer is None:
            return
        site = _find_site(peer)
        for network in (peer, site) if site else (peer,):
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]


class CrowdedError(Exception):
    """There is no room for one more connection, at all or for this peer."""


def _find_site(peer: Network) -> IPv6Network | None:
    return peer.supernet(new_prefix=_SITE) if isinstance(peer, IPv6Network) else None


def _parse(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    # A socket for both families shows an IPv4 peer as an IPv6 address.
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
