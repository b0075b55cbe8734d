"""Where the server can listen: both families at once, several addresses, and a Unix socket."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.processes.listeners import name_address, open_listeners, show_address
from tests.services import run_test_service

HAS_IPV6 = socket.has_ipv6 and socket.has_dualstack_ipv6()


def reach(hosts: Sequence[str]) -> set[str]:
    """Return the loopback addresses at which such a server takes connections."""
    reached = set()
    with open_listeners(hosts, 0) as sockets:
        port, *others = {name_address(sock)[1] for sock in sockets}
        assert not others, "all have one port"
        for address in ("127.0.0.1", "::1"):
            try:
                socket.create_connection((address, port), timeout=5).close()
            except OSError:
                continue
            reached.add(address)
    return reached


@pytest.mark.parametrize(
    ("hosts", "addresses"),
    [
        (["127.0.0.1"], {"127.0.0.1"}),
        (["0.0.0.0"], {"127.0.0.1"}),  # noqa: S104 - for a moment
        (["::1"], {"::1"}),
        (["::1", "127.0.0.1"], {"::1", "127.0.0.1"}),
        (["::"], {"::1", "127.0.0.1"}),
        (["*"], {"::1", "127.0.0.1"}),
    ],
    ids=lambda value: "+".join(sorted(value)),
)
def test_every_address_that_is_named_takes_connections(hosts: list[str], addresses: set[str]) -> None:
    if not HAS_IPV6 and hosts != ["*"] and any(":" in host for host in hosts):
        pytest.skip("no IPv6 here")
    assert reach(hosts) == (addresses if HAS_IPV6 else addresses - {"::1"})


def test_a_name_stands_for_all_of_its_addresses() -> None:
    found = {address[0] for *_, address in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}
    with open_listeners(["localhost"], 0) as sockets:
        assert {name_address(sock)[0] for sock in sockets} == found


def test_a_taken_port_is_an_error_for_every_address_too() -> None:
    with (
        open_listeners(["*"], 0) as [taken],
        pytest.raises(OSError, match="in use"),
        open_listeners(["*"], name_address(taken)[1]),
    ):
        pass


def test_a_unix_socket_left_behind_gives_way_and_one_in_use_does_not(tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    host = f"unix:{path}"
    with open_listeners([host], 0) as [sock]:
        assert show_address(*name_address(sock)) == host
        assert path.stat().st_mode & 0o777 == 0o660
        with pytest.raises(OSError, match="in use"), open_listeners([host], 0):
            pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    assert not path.exists()
    path.write_text("a file of somebody's")
    with pytest.raises(OSError, match="in use"), open_listeners([host], 0):
        pass
    assert path.read_text() == "a file of somebody's"


async def test_a_proxy_at_a_unix_socket_names_the_client(database: str, tmp_path: Path) -> None:
    path = tmp_path / "http.sock"
    environ = {"REGSVC_HTTP_HOST": f"127.0.0.1,unix:{path}", "REGSVC_METRICS_ALLOW": "203.0.113.0/24"}
    async with run_test_service(database, tmp_path, environ):
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://accounts.example") as client:
            statuses = [
                (await client.get("/metrics", headers=headers)).status_code
                for headers in ({}, {"X-Forwarded-For": "203.0.113.9"}, {"X-Forwarded-For": "198.51.100.1"})
            ]
            assert (await client.get("/healthz")).status_code == HTTPStatus.OK
            with trio.fail_after(20):
                signed_up = await client.post(
                    "/api/v1/register",
                    json={"email": "ann@example.com", "password": "correct horse", "name": "Ann"},
                )
    assert statuses == [HTTPStatus.FORBIDDEN, HTTPStatus.OK, HTTPStatus.FORBIDDEN]
    assert signed_up.status_code == HTTPStatus.CREATED
