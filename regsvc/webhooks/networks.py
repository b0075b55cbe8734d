"""Which addresses a request to another service may connect to.

Everything that the IANA special-purpose registries (RFC 6890) do not call global is refused, and every address that
only wraps another one: mapped, NAT64, 6to4, Teredo. A name in the DNS may point anywhere, so the address counts.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network

# `is_global` depends on the version of Python, so what matters is listed.
_REFUSED: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by a provider's customers
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, where clouds keep their metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
        "::/16",  # unspecified, loopback, mapped and compatible
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",  # Teredo, ORCHID and others
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/9",  # link-local, and the site-local addresses of before
        "ff00::/8",
    )
)
_GLOBAL: Final = ip_network("2000::/3")


def is_listed(address: IPv4Address | IPv6Address, networks: tuple[Network, ...]) -> bool:
    """Return whether an address lies in one of the networks. A mapped IPv4 address counts as itself and as IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any(
        candidate in network
        for network in networks
        for candidate in (address, mapped)
        if candidate is not None and candidate.version == network.version
    )


def may_reach(address: str, *, allowed: tuple[Network, ...], plain: bool) -> bool:
    """Return whether a request may connect to an address.

    Args:
        address: an IPv4 or IPv6 address, as the resolver returned it.
        allowed: networks that may be reached although they are private.
        plain: whether the request is not encrypted; that is allowed in these networks alone.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    scoped = isinstance(parsed, IPv6Address) and parsed.scope_id is not None
    if not scoped and is_listed(parsed, allowed):
        return True
    if plain or scoped or is_listed(parsed, _REFUSED):
        return False
    return isinstance(parsed, IPv4Address) or parsed in _GLOBAL
