"""The client of a request: its address, its network, and the software that it names."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network
from typing import cast

from quart import request

from regsvc.http.context import get_context
from regsvc.http.current import get_connection, get_globals
from regsvc.http.request.forwarding import Client, IPAddress, find_client
from regsvc.logs import client_prefix

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


def get_client() -> Client:
    """Return the client of the current request or websocket."""
    here = get_globals()
    if "client" not in here:
        connection, context = get_connection(), get_context()
        headers = connection.headers
        here.client = find_client(
            connection.remote_addr,
            headers.keys(),
            headers.getlist("X-Forwarded-For"),
            context.settings.trusted_proxies,
        )
        context.forwarding.note(here.client, connection.remote_addr)
    return cast("Client", here.client)


def get_client_address() -> IPAddress | None:
    """Return the address of the current client, or None when it is not known."""
    return get_client().address


def is_local() -> bool:
    """Return whether the current request came from this machine and from nowhere else."""
    client = get_client()
    return client.trouble is None and (client.address is None or client.address.is_loopback)


def limits_apply() -> bool:
    """Return whether the current client is held to limits; in `dev`, this machine's own are not."""
    context = get_context()
    if not context.settings.rate_limits:
        return False
    return not (context.dev and is_local())


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


def get_wide_network() -> str:
    """Return the /48 of the current client's IPv6 address: 65,536 networks of one subscriber each; empty for IPv4."""
    address = get_client_address()
    return str(IPv6Network((int(address), 48), strict=False)) if isinstance(address, IPv6Address) else ""


def get_client_word() -> str:
    """Return a short word for the current client's software, made of our own words alone."""
    return client_word(request.headers.get("User-Agent", ""))


def client_word(user_agent: str) -> str:
    """Return what a `User-Agent` amounts to, such as `Firefox on Linux`; nothing of it is repeated as it is."""
    browser = next((word for mark, word in _BROWSERS if mark in user_agent), "")
    system = next((word for mark, word in _SYSTEMS if mark in user_agent), "")
    return " on ".join(part for part in (browser, system) if part) or "unknown"
