"""Advice on addresses: right for what people mistype, silent about every real domain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from regsvc.accounts.limits.refused_keys import RefusedKeys
from regsvc.dns import for_clients
from regsvc.dns.for_clients import ClientLookUps
from regsvc.dns.resolver import Resolver
from regsvc.flows.caller import Caller
from regsvc.flows.signup.address_advice import Advice, advise
from tests.dns_servers import FAILING, SILENT, open_dns_server

if TYPE_CHECKING:
    from regsvc.flows.service import Service

HERE = Path(__file__).parent
SLIPS = [tuple(line.split("\t")) for line in (HERE / "slips.tsv").read_text().splitlines()]
"""Slips that people made, what they meant, and what the DNS has there: `mx`, `null`, `txt` or `nothing`."""
REAL = sorted(set((HERE / "mail_domains.txt").read_text().split()))
RECORDS = {"mx": {"MX": ["10 mx.parked.example."]}, "null": {"MX": ["0 ."]}, "txt": {"TXT": ["parked"]}}


class Settings:
    """What advice reads of the settings."""

    local_domains = frozenset({"corp.local", "*.intern.de"})


class Part:
    """The part of a service that advice needs."""

    settings = Settings()

    def __init__(self, resolver: Resolver) -> None:
        self.look_ups = ClientLookUps(resolver)
        self.refused = RefusedKeys()


def caller() -> Caller:
    return Caller("192.0.2.1", "", "192.0.2.0/24", "curl", "en", "request", limited=False)


async def ask(resolver: Resolver, email: str) -> Advice:
    part: Service = Part(resolver)  # type: ignore[assignment]
    return await advise(part, caller(), email)


async def test_recorded_slips_are_advised_rightly() -> None:
    zone = {slip: RECORDS[facts] for slip, _, facts in SLIPS if facts in RECORDS}
    async with open_dns_server(zone) as server:
        resolver = Resolver([("127.0.0.1", server.port)])
        wrong = {}
        for slip, right, _ in SLIPS:
            advice = await ask(resolver, f"Ann.Lee+x@{slip}")
            if advice.suggestion != f"Ann.Lee+x@{right}":
                wrong[slip] = advice
    assert len(SLIPS) >= 200
    assert len(wrong) <= 0.05 * len(SLIPS), wrong


@pytest.mark.parametrize("answer", ["takes mail", FAILING, SILENT])
async def test_no_guess_about_a_real_domain(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regsvc.dns.mail_domains.ask_mail_domain.__kwdefaults__", {"seconds": 0.01})
    zone = {name: answer if answer in {FAILING, SILENT} else {"MX": ["10 mx.example."]} for name in REAL}
    async with open_dns_server(zone) as server:
        resolver = Resolver([("127.0.0.1", server.port)])
        given = {name: await ask(resolver, f"ann@{name}") for name in REAL}
        assert server.asked
    assert {name for name, advice in given.items() if advice != Advice()} == set()


async def test_a_domain_that_takes_no_mail_and_is_near_no_other_is_only_reported() -> None:
    async with open_dns_server({"quiet-company.de": {"MX": ["0 ."]}}) as server:
        resolver = Resolver([("127.0.0.1", server.port)])
        assert await ask(resolver, "ann@quiet-company.de") == Advice(None, "takes_no_mail")
        assert await ask(resolver, "ann@long-gone-company.de") == Advice(None, "takes_no_mail")


@pytest.mark.parametrize(
    "email",
    [
        "ann",
        "ann@",
        "@gmail.com",
        "ann@gmail.com",
        "Ann@GMAIL.com.",
        "ann@example.com",
        "ann@printer.local",
        "ann@db.internal",
        "ann@corp.local",
        "ann@mail.intern.de",
        "ann@localhost",
        "ann@[192.0.2.1]",
        "ann@-.de",
        "ann@co.uk",
        "a\r\nb@no where.de",
    ],
)
async def test_nothing_is_said_or_asked_about_names_that_are_not_public_or_well_known(email: str) -> None:
    async with open_dns_server({}) as server:
        assert await ask(Resolver([("127.0.0.1", server.port)]), email) == Advice()
        assert not server.asked


async def test_the_third_look_up_of_a_client_gets_no_advice_and_no_question() -> None:
    zone = {f"slow{n}.de": SILENT for n in range(for_clients.LOOK_UPS)}
    async with open_dns_server(zone) as server, trio.open_nursery() as nursery:
        part: Service = Part(Resolver([("127.0.0.1", server.port)]))  # type: ignore[assignment]
        for name in zone:
            nursery.start_soon(advise, part, caller(), f"ann@{name}")
        await server.wait_asked(len(zone))
        assert await advise(part, caller(), "ann@gone.de") == Advice()
        assert ("gone.de", "MX") not in server.asked
        nursery.cancel_scope.cancel()
