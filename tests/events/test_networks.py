"""No webhook reaches an inner network, whatever its name resolves to; and a name is resolved once."""

from __future__ import annotations

import socket
from typing import Any

import httpcore2
import pytest
import trio

from regsvc.config.notations import networks
from regsvc.webhooks.networks import may_reach
from regsvc.webhooks.request import UnreachableError, check_url, post
from tests.mail.providers import ProviderServer

REFUSED = [
    "0.0.0.0",  # noqa: S104 - to be refused
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.1.2.3",
    "169.254.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.170",
    "192.0.2.1",
    "192.31.196.1",
    "192.52.193.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.255",
    "192.175.48.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "1000::1",
    "4000::1",
    "8000::1",
    "e000::1",
    "not-an-address",
]
REACHED = [
    "8.8.8.8",
    "1.1.1.1",
    "100.63.255.255",
    "100.128.0.1",
    "172.15.0.1",
    "172.32.0.1",
    "2606:4700::1111",
    "2a00:1450::1",
]


def test_there_are_sixty_addresses() -> None:
    assert len(set(REFUSED)) >= 60


@pytest.mark.parametrize("address", REFUSED)
def test_an_inner_address_is_refused(address: str) -> None:
    assert not may_reach(address, allowed=(), plain=False)


@pytest.mark.parametrize("address", REACHED)
def test_a_public_address_is_reached_with_encryption_alone(address: str) -> None:
    assert may_reach(address, allowed=(), plain=False)
    assert not may_reach(address, allowed=(), plain=True)
    assert may_reach(address, allowed=networks(address), plain=True)


def test_an_allowed_network_is_reached_also_in_clear() -> None:
    allowed = networks("10.1.0.0/16,::1")
    assert may_reach("10.1.2.3", allowed=allowed, plain=True)
    assert may_reach("::ffff:10.1.2.3", allowed=allowed, plain=True)
    assert not may_reach("10.2.0.1", allowed=allowed, plain=False)


class Connections:
    """Every address that a request would have connected to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []

        async def connect(_: object, host: str, port: int, *_rest: object) -> Any:
            self.made.append(host)
            raise httpcore2.ConnectError("refused")

        monkeypatch.setattr(httpcore2.TrioBackend, "connect_tcp", connect)


class Names(trio.abc.HostnameResolver):
    """Resolves every name to other addresses each time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> Any:
        """Return the next answer."""
        del host
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in self.answers.pop(0)
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        """Not asked."""
        raise NotImplementedError


async def call(url: str) -> str:
    """Return why a request brought no answer."""
    with pytest.raises(UnreachableError) as caught:
        await post(url, {}, b"", allowed=(), seconds=15)
    return str(caught.value)


async def test_no_inner_address_is_dialled_by_name_or_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    connections = Connections(monkeypatch)
    for address in REFUSED[:-1]:
        trio.socket.set_custom_hostname_resolver(Names([address]))
        assert await call("https://rebound.example.com/") == "address not allowed"

    assert connections.made == []


async def test_the_checked_address_is_dialled_and_the_name_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connections = Connections(monkeypatch)
    names = Names(["10.0.0.1", "8.8.8.8"], ["127.0.0.1"])
    trio.socket.set_custom_hostname_resolver(names)
    assert await call("https://rebound.example.com/") == "connection refused"
    assert connections.made == ["8.8.8.8"]
    assert names.answers == [["127.0.0.1"]]


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "0", "0x7f000001", "2130706433", "127.1", "[::1]", "[::ffff:127.0.0.1]"],
)
async def test_a_server_on_this_machine_is_not_hit(host: str) -> None:
    async with ProviderServer("resend").running() as server:
        assert await call(f"http://{host}:{server.port}/") in {"address not allowed", "name not found"}
        assert await call(f"https://{host}:{server.port}/") in {"address not allowed", "name not found"}
        assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "http:///path",
        "https://user:secret@example.com/",
        "https://example.com:99999/",
        "https://exämple.com/",
        "https://example.com/ x",
        "https://example.com/" + "a" * 2000,
    ],
    ids=["ftp", "file", "no-host", "password", "port", "not-ascii", "space", "long"],
)
def test_what_is_no_address_for_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        check_url(url)
