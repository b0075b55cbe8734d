"""A small DNS server of the tests' own, over UDP and TCP on loopback."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio

SILENT = "silent"
"""As records: no answer ever comes."""
FAILING = "failing"
"""As records: the server fails (SERVFAIL)."""

Zone = Mapping[str, Mapping[str, Sequence[str]] | str]
"""Records as text by type, by name. A name that is absent does not exist; a type that is absent has no records."""


@dataclass
class DnsServer:
    """A server that answers from a zone.

    Args:
        port: on 127.0.0.1, for UDP and TCP.
        zone: what it answers from.
        asked: questions so far.
        at_once: silent questions that wait for an answer.
    """

    port: int
    zone: Zone
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    @property
    def setting(self) -> str:
        """The value of REGSVC_DNS_SERVER that names it."""
        return f"127.0.0.1:{self.port}"

    async def wait_asked(self, number: int) -> None:
        """Wait until so many questions have come."""
        with trio.fail_after(10):
            while self.asked.total() < number:
                await self.changed.park()

    def answer(self, data: bytes, *, by_udp: bool) -> bytes | None:
        """Return the answer to a question, or None for silence."""
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = (
            question.name.to_text(omit_final_dot=True).lower(),
            dns.rdatatype.to_text(question.rdtype),
        )
        self.asked[name, kind] += 1
        self.changed.unpark_all()
        response = dns.message.make_response(query, recursion_available=True)
        found = self.zone.get(name)
        if found == SILENT:
            return None
        if found == FAILING:
            response.set_rcode(dns.rcode.SERVFAIL)
        elif found is None:
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif not isinstance(found, str) and (texts := found.get(kind)):
            response.answer.append(dns.rrset.from_text_list(question.name, 300, "IN", kind, texts))
        wire = response.to_wire()
        if by_udp and len(wire) > 512:
            response = dns.message.make_response(query)
            response.flags |= dns.flags.TC
            wire = response.to_wire()
        return wire


@asynccontextmanager
async def open_dns_server(zone: Zone) -> AsyncIterator[DnsServer]:
    """Run a server as long as the block lasts."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    datagrams = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
    await datagrams.bind(("127.0.0.1", port))
    server = DnsServer(port, zone)

    async def serve_datagrams() -> None:
        while True:
            data, peer = await datagrams.recvfrom(65_535)
            answer = server.answer(data, by_udp=True)
            if answer is not None:
                await datagrams.sendto(answer, peer)

    async def serve_stream(stream: trio.SocketStream) -> None:
        async with stream:
            received = b""
            while len(received) < 2 or len(received) < 2 + int.from_bytes(received[:2], "big"):
                more = await stream.receive_some(65_536)
                if not more:
                    return
                received += more
            answer = server.answer(received[2:], by_udp=False)
            if answer is None:
                await trio.sleep_forever()
            else:
                await stream.send_all(len(answer).to_bytes(2, "big") + answer)

    with datagrams:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_datagrams)
            nursery.start_soon(trio.serve_listeners, serve_stream, listeners)
            yield server
            nursery.cancel_scope.cancel()
