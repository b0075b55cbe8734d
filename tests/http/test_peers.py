"""No peer holds all connections of the server."""

from __future__ import annotations

import sys
from ipaddress import ip_network

import pytest

from regsvc.http.server.peers import CrowdedError, Peers
from regsvc.http.server.server import Limits
from tests.http.serving import serving

ON_LINUX = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere 127.0.0.2 is no address of the machine"
)


@ON_LINUX
async def test_a_peer_gets_503_beyond_half_of_the_connections_while_others_are_served() -> None:
    async with serving(Limits(connections=4), spared=()) as served:
        async with served.client() as first, served.client() as second:
            assert (await first.ask("GET / HTTP/1.1")).status == 200
            assert (await second.ask("GET / HTTP/1.1")).status == 200
            async with served.client() as third:
                answer = await third.read_answer()
                assert (answer.status, answer.problem["code"]) == (503, "too_many_connections")
                assert int(answer.headers["retry-after"]) > 0
            async with served.client("127.0.0.2") as other:
                assert (await other.ask("GET / HTTP/1.1")).status == 200
            assert served.server.statistics().refused == 1
        await served.wait_until(lambda: served.server.statistics().open == 0)
        assert (await served.ask("GET / HTTP/1.1")).status == 200  # what it left it may have again


async def test_a_proxy_on_this_machine_may_hold_all_connections() -> None:
    async with serving(Limits(connections=2)) as served, served.client() as first, served.client() as second:
        assert (await first.ask("GET / HTTP/1.1")).status == 200
        assert (await second.ask("GET / HTTP/1.1")).status == 200


@pytest.mark.parametrize(
    ("host", "other"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8::1", "2001:db8::ffff:1:2:3"),
        ("fe80::1%1", "fe80::2%1"),
    ],
)
def test_addresses_of_one_client_are_one_peer(host: str, other: str) -> None:
    peers = Peers(1, ())
    place = peers.enter(host)
    with pytest.raises(CrowdedError):
        peers.enter(other)
    peers.leave(place)
    assert peers.enter(other) == place


def test_the_networks_of_one_site_do_not_hold_all_connections() -> None:
    """A /48 of IPv6 has 65,536 networks of which each is a peer."""
    peers = Peers(4, ())
    places = [peers.enter(f"2001:db8:7:{number}::1") for number in range(6)]
    with pytest.raises(CrowdedError):
        peers.enter("2001:db8:7:ffff::1")
    assert peers.enter("2001:db8:8::1") is not None
    peers.leave(places[0])
    assert peers.enter("2001:db8:7:ffff::1") is not None


@pytest.mark.parametrize(
    ("host", "other"),
    [
        ("192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8:0:1::1"),
        ("2001:db8::7", "2001:db8::8"),
        ("", ""),
    ],
    ids=["IPv4", "IPv6", "a proxy beside its neighbour", "Unix sockets"],
)
def test_others_are_not_counted_together(host: str, other: str) -> None:
    peers = Peers(1, [ip_network("2001:db8::7")])
    peers.enter(host)
    peers.enter(other)
