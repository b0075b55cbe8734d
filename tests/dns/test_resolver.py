"""The resolver: what it concludes, what it remembers, and that it never holds anything up."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from regsvc.config import notations
from regsvc.dns import resolver as resolving
from regsvc.dns.for_clients import ClientLookUps
from regsvc.dns.mail_domains import MailDomain, ask_mail_domain
from regsvc.dns.public_names import is_public
from regsvc.dns.resolver import NoAnswerError, Records, Resolver
from tests.dns_servers import FAILING, SILENT, Zone, open_dns_server

ZONE: Zone = {
    "mail.example.de": {"MX": ["20 second.example.", "10 First.example."]},
    "null.example.de": {"MX": ["0 ."]},
    "host.example.de": {"A": ["192.0.2.1"]},
    "host6.example.de": {"AAAA": ["2001:db8::1"]},
    "text.example.de": {"TXT": ['"v=spf1 " "include:a -all"']},
    "large.example.de": {"MX": [f"{n} {'x' * 60}{n}.example." for n in range(10, 50)]},
    "failing.example.de": FAILING,
    "silent.example.de": SILENT,
}


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("mail.example.de", MailDomain(takes_mail=True, exchangers=("first.example", "second.example"))),
        ("null.example.de", MailDomain(takes_mail=False)),
        ("host.example.de", MailDomain(takes_mail=True, exchangers=("host.example.de",))),
        ("host6.example.de", MailDomain(takes_mail=True, exchangers=("host6.example.de",))),
        ("text.example.de", MailDomain(takes_mail=False)),
        ("gone.example.de", MailDomain(takes_mail=False)),
        ("failing.example.de", MailDomain(takes_mail=None)),
        ("silent.example.de", MailDomain(takes_mail=None)),
    ],
)
async def test_only_proof_says_that_a_domain_takes_no_mail(domain: str, found: MailDomain) -> None:
    async with open_dns_server(ZONE) as server:
        resolver = Resolver([("127.0.0.1", server.port)])
        assert await ask_mail_domain(resolver, domain, seconds=0.3) == found


async def test_without_a_server_nothing_is_known() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unanswered:
        unanswered.bind(("127.0.0.1", 0))
        resolver = Resolver([("127.0.0.1", unanswered.getsockname()[1])])
        assert (await ask_mail_domain(resolver, "mail.example.de", seconds=0.2)).takes_mail is None


async def test_texts_are_joined_and_long_answers_come_by_tcp_and_are_cut() -> None:
    async with open_dns_server(ZONE) as server:
        resolver = Resolver([("127.0.0.1", server.port)])
        texts = await resolver.look_up("text.example.de", "TXT", seconds=5)
        assert texts == Records(exists=True, texts=("v=spf1 include:a -all",))
        large = await resolver.look_up("large.example.de", "MX", seconds=5)
        assert len(large.texts) == resolving.MOST_RECORDS


async def test_an_answer_is_asked_for_once_and_a_failure_not_again_at_once() -> None:
    async with open_dns_server(ZONE) as server:
        resolver = Resolver([("127.0.0.1", server.port)])
        for _ in range(3):
            await resolver.look_up("mail.example.de", "MX", seconds=5)
            assert not (await resolver.look_up("gone.example.de", "MX", seconds=5)).exists
        assert server.asked == {("mail.example.de", "MX"): 1, ("gone.example.de", "MX"): 1}
        with pytest.raises(NoAnswerError):
            await resolver.look_up("failing.example.de", "MX", seconds=0.3)
        before = server.asked.total()
        with pytest.raises(NoAnswerError):
            await resolver.look_up("failing.example.de", "MX", seconds=0.3)
        assert server.asked.total() == before


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "KEPT", 2)
    async with open_dns_server(ZONE) as server:
        resolver = Resolver([("127.0.0.1", server.port)])
        for name in ("a.example.de", "b.example.de", "c.example.de", "a.example.de"):
            await resolver.look_up(name, "MX", seconds=5)
        assert server.asked["a.example.de", "MX"] == 2


async def test_too_many_look_ups_at_once_are_refused_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "AT_ONCE", 1)
    async with open_dns_server(ZONE) as server, trio.open_nursery() as nursery:
        resolver = Resolver([("127.0.0.1", server.port)])

        async def hang() -> None:
            with pytest.raises(NoAnswerError):
                await resolver.look_up("silent.example.de", "MX", seconds=30)

        nursery.start_soon(hang)
        await server.wait_asked(1)
        with pytest.raises(NoAnswerError, match="too many"):
            await resolver.look_up("mail.example.de", "MX", seconds=30)
        nursery.cancel_scope.cancel()


def test_a_client_has_two_look_ups_at_once() -> None:
    look_ups = ClientLookUps(Resolver())
    with (
        look_ups.counted("one"),
        look_ups.counted("one"),
        look_ups.counted("other"),
        pytest.raises(NoAnswerError),
        look_ups.counted("one"),
    ):
        pass
    with look_ups.counted("one"):
        assert look_ups.under_way == {"one": 1}


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("gmail.com", True),
        ("a.b.co.uk", True),
        ("xn--mnchen-3ya.de", True),
        ("com", False),
        ("co.uk", False),
        ("gmail.con", False),
        ("example.com", False),
        ("mail.example.org", False),
        ("printer.local", False),
        ("db.internal", False),
        ("kube-dns.kube-system.svc.cluster.local", False),
        ("x.onion", False),
        ("host.test", False),
        ("1.0.0.127.in-addr.arpa", False),
        ("localhost", False),
    ],
)
def test_only_public_names_are_looked_up(name: str, *, public: bool) -> None:
    assert is_public(name) == public


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("", ()),
        ("192.0.2.53", (("192.0.2.53", 53),)),
        ("192.0.2.53:5353  2001:db8::53", (("192.0.2.53", 5353), ("2001:db8::53", 53))),
        ("[2001:db8::53]:5353", (("2001:db8::53", 5353),)),
    ],
)
def test_dns_servers_are_named_by_address(text: str, servers: object) -> None:
    assert notations.dns_servers(text) == servers


@pytest.mark.parametrize(
    "text", ["dns.example.org", "192.0.2.53:0", "192.0.2.53:70000", "192.0.2.53,192.0.2.54"]
)
def test_other_notations_of_dns_servers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a list|port"):
        notations.dns_servers(text)
