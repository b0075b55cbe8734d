"""Who is calling: the client's address behind trusted proxies, and what it says of its software."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from quart import has_request_context, request, websocket

from regsvc.http.context import get_context
from regsvc.logs import client_prefix

IPAddress = IPv4Address | IPv6Address

# Most specific first: nearly every browser names the others, too.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
    ("python", "a Python program"),
    ("Python", "a Python program"),
    ("Go-http-client", "a Go program"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def client_address(
    peer: str | None, forwarded: Iterable[str], trusted: Iterable[IPv4Network | IPv6Network]
) -> IPAddress | None:
    """Return the address of the client, believing `X-Forwarded-For` as far as trusted proxies wrote it.

    Args:
        peer: who is at the other end of the connection.
        forwarded: the values of `X-Forwarded-For`, in order.
        trusted: the networks of the proxies.

    Returns:
        The rightmost address that no trusted proxy has, or None when there is none (a Unix socket).
    """
    networks = tuple(trusted)
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    address = _parse(peer or "")
    while address is not None and hops and any(address in network for network in networks):
        nearer = _parse(hops.pop())
        if nearer is None:
            break
        address = nearer
    return address


def get_client_address() -> IPAddress | None:
    """Return the address of the current request's or websocket's client."""
    connection = request if has_request_context() else websocket
    return client_address(
        connection.remote_addr,
        connection.headers.getlist("X-Forwarded-For"),
        get_context().settings.trusted_proxies,
    )


def limits_apply() -> bool:
    """Say whether the current client is held to limits; in `dev`, this machine's own are not."""
    context = get_context()
    if not context.settings.rate_limits:
        return False
    client = get_client_address()
    return not (context.dev and (client is None or client.is_loopback))


def get_origin() -> str:
    """Return the network prefix that the current request came from, or `unknown`."""
    address = get_client_address()
    return "unknown" if address is None else client_prefix(str(address))


def get_client_network() -> str:
    """Return who is counted as one client: an IPv4 address, or the /64 of an IPv6 address, which one subscriber has."""
    address = get_client_address()
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), 64), strict=False))
    return "unknown" if address is None else str(address)


def get_client_word() -> str:
    """Return a short word for the current client's software, made of our own words alone."""
    return client_word(request.headers.get("User-Agent", ""))


def client_word(user_agent: str) -> str:
    """Return what a `User-Agent` amounts to, such as `Firefox on Linux`; nothing of it is repeated as it is."""
    browser = next((word for mark, word in _BROWSERS if mark in user_agent), "")
    system = next((word for mark, word in _SYSTEMS if mark in user_agent), "")
    return " on ".join(part for part in (browser, system) if part) or "unknown"


def _parse(text: str) -> IPAddress | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
