"""Forwarding headers: which client they name, and that doubt never gives a stranger an operator's rights."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from regsvc.http.request.forwarding import Client, ForwardingTroubles, find_client
from tests.services import run_test_service

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
PROXY = "10.0.0.1"


def find(*forwarded: str, peer: str = PROXY, names: tuple[str, ...] = ("X-Forwarded-For",)) -> Client:
    return find_client(peer, names, forwarded, PROXIES)


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:51234", "203.0.113.9"),
        ("[2001:db8::3]:443", "2001:db8::3"),
        ("[2001:db8::3]", "2001:db8::3"),
        ("2001:db8::3", "2001:db8::3"),
        ("203.0.113.9,", "203.0.113.9"),
        ("203.0.113.9, ,", "203.0.113.9"),
        ("\t203.0.113.9 ", "203.0.113.9"),
        ("203.0.113.9, 10.9.9.9:1, fd00::1", "203.0.113.9"),
        ("198.51.100.7, 203.0.113.9", "203.0.113.9"),
        ("garbage, 203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("", PROXY),
        (" , ", PROXY),
    ],
)
def test_the_client_is_the_rightmost_that_is_no_trusted_proxy_however_it_is_written(
    value: str, client: str
) -> None:
    assert find(value) == Client(ip_address(client))


def test_several_headers_are_one_list() -> None:
    assert find("198.51.100.7", "203.0.113.9:80, 10.0.0.2") == Client(ip_address("203.0.113.9"))


@pytest.mark.parametrize(
    "value",
    [
        "unknown",
        "_hidden",
        "203.0.113.9, unknown",
        "203.0.113",
        "203.0.113.9:port",
        "[::1",
        "::1]:80",
        "1:2",
        "x" * 9,
    ],
)
def test_an_entry_that_names_nobody_never_falls_back_to_the_proxy(value: str) -> None:
    assert find(value) == Client(None, "unreadable")


@pytest.mark.parametrize("peer", [PROXY, "<local>"], ids=["address", "socket"])
@pytest.mark.parametrize("name", ["Forwarded", "via", "X-Real-IP", "x-forwarded-proto", "X-Forwarded-Host"])
def test_other_headers_of_a_trusted_proxy_without_an_entry_make_the_client_unknown(
    name: str, peer: str
) -> None:
    """Its own address would give strangers the rights of an operator on its machine."""
    assert find(peer=peer, names=("Host", name)) == Client(None, "unreadable")
    assert find("", peer=peer, names=("X-Forwarded-For", name)) == Client(None, "unreadable")
    assert find("203.0.113.9", peer=peer, names=("X-Forwarded-For", name)) == Client(
        ip_address("203.0.113.9")
    )


@pytest.mark.parametrize("name", ["X-Forwarded-For", "forwarded", "VIA", "X-Real-Ip", "x-forwarded-proto"])
def test_a_forwarding_header_of_an_untrusted_peer_is_not_read_but_noticed(name: str) -> None:
    peer = "127.0.0.1"
    assert find("203.0.113.9", peer=peer, names=("Host", name)) == Client(ip_address(peer), "untrusted")
    assert find(peer=peer, names=("Host", "Accept")) == Client(ip_address(peer))


def test_a_proxy_at_a_unix_socket_is_believed() -> None:
    assert find("203.0.113.9:1", peer="<local>") == Client(ip_address("203.0.113.9"))
    assert find(peer="<local>", names=()) == Client(None)


def test_each_trouble_is_logged_once_and_strangers_headers_are_not() -> None:
    troubles = ForwardingTroubles()
    with capture_logs() as lines:
        for peer in ("1.1.1.1", "192.168.7.7", "192.168.7.8", "127.0.0.1"):
            troubles.note(find("x", peer=peer), peer)
        assert troubles.summary() == "untrusted"
        for _ in range(3):
            troubles.note(find("unknown"), PROXY)
        troubles.note(find("203.0.113.9"), PROXY)
    assert [line["event"] for line in lines] == [
        "forwarding header not believed",
        "forwarding header not readable",
    ]
    assert lines[0]["peer"] == "192.168.7.0/24"
    assert troubles.summary() == "unreadable"


FORWARDED = [
    {"X-Forwarded-For": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"Via": "1.1 proxy"},
]


@pytest.fixture(params=["none", "127.0.0.0/8"])
def trusted(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_strangers_behind_a_proxy_of_this_machine_are_no_operators(
    database: str, tmp_path: Path, trusted: str
) -> None:
    """Whether or not the operator listed the proxy, and whatever its headers are worth."""
    headers = [{"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "unknown"}]
    headers += FORWARDED if trusted == "none" else FORWARDED[1:]
    async with run_test_service(database, tmp_path, {"REGSVC_TRUSTED_PROXIES": trusted}) as service:
        for each in headers:
            assert (await service.client.get("/metrics", headers=each)).status_code == 403
            assert "children" not in (await service.client.get("/readyz", headers=each)).json()
        seen = (await service.client.get("/readyz")).json()  # Prometheus on this machine
        assert seen["forwarding"] == ("untrusted" if trusted == "none" else "unreadable")
        assert (await service.client.get("/metrics")).status_code == 200


async def test_the_access_log_names_the_client_behind_a_proxy(database: str, tmp_path: Path) -> None:
    environ = {"REGSVC_TRUSTED_PROXIES": "127.0.0.1"}
    with capture_logs() as lines:
        async with run_test_service(database, tmp_path, environ) as service:
            await service.client.get("/signup", headers={"X-Forwarded-For": "203.0.113.9:51234"})
            await service.client.get("/login", headers={"X-Forwarded-For": "unknown"})
            await service.client.get("/forgot")
    clients = {line["path"]: line["client"] for line in lines if line["event"] == "request answered"}
    assert clients == {"/signup": "203.0.113.0/24", "/login": "unknown", "/forgot": "127.0.0.0/24"}


@pytest.mark.parametrize("path", ["/dev/mail", "/dev/mail/news"])
async def test_the_mailbox_of_dev_needs_a_peer_and_a_name_of_this_machine(
    database: str, tmp_path: Path, path: str
) -> None:
    environ = {"REGSVC_TRUSTED_PROXIES": "127.0.0.1"}
    async with run_test_service(database, tmp_path, environ, dev=True) as service:

        async def ask(**headers: str) -> httpx.Response:
            return await service.client.get(
                path, headers={name.replace("_", "-"): v for name, v in headers.items()}
            )

        assert (await ask(Host="localhost")).status_code == 200
        assert (await ask(Host="evil.example")).status_code == 404
        assert (await ask(Host="localhost", X_Forwarded_For="192.168.1.7")).status_code == 404
        assert (await ask(Host="localhost", X_Forwarded_For="unknown")).status_code == 404
