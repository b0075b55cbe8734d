"""`regsvc check --mail` against a DNS server of the tests' own: what is missing, with the record to add."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from regsvc.checks.mail.all_checks import check_mail
from regsvc.checks.report import Report
from regsvc.config import loading
from regsvc.config.dkim_keys import load_keys
from regsvc.config.settings import Settings
from tests.dns_servers import FAILING, DnsServer, Zone, open_dns_server

DOMAIN = "mail.acme.de"


def make_pem() -> str:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    keys = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
    )
    return "".join(key.private_bytes(*form).decode() for key in keys)


PEM = make_pem()
RSA, ED = load_keys(PEM, "s1 s2")


def quote(text: str) -> str:
    """Return a TXT record in strings of at most 255 octets."""
    return " ".join(f'"{text[start : start + 255]}"' for start in range(0, len(text), 255))


GOOD: Zone = {
    DOMAIN: {"TXT": [quote("v=spf1 include:_spf.google.com ~all")], "MX": ["10 mx.acme.de."]},
    f"s1._domainkey.{DOMAIN}": {"TXT": [quote(RSA.record)]},
    f"s2._domainkey.{DOMAIN}": {"TXT": [quote(ED.record)]},
    "_dmarc.acme.de": {"TXT": [quote("v=DMARC1; p=reject")]},
    f"b.{DOMAIN}": {"TXT": [quote("v=spf1 mx -all")], "MX": ["10 mx.acme.de."]},
}


def make_settings(server: DnsServer, **changed: str) -> Settings:
    environ = {
        "REGSVC_DATABASE_URL": "postgresql://db.acme.de/a",
        "REGSVC_SECRET_KEY": "a secret of the tests that is long enough",
        "REGSVC_SMTP_URL": "smtp+starttls://a:b@smtp.gmail.com:587",
        "REGSVC_MAIL_FROM": f"Acme <no-reply@{DOMAIN}>",
        "REGSVC_PUBLIC_URL": "https://accounts.acme.de",
        "REGSVC_DKIM_KEY": PEM,
        "REGSVC_DKIM_SELECTOR": "s1 s2",
        "REGSVC_DNS_SERVER": server.setting,
        **{f"REGSVC_{name}": value for name, value in changed.items()},
    }
    return loading.load({name: value for name, value in environ.items() if value}, mode="dev")


async def check(zone: Zone, **changed: str) -> dict[str, Report]:
    async with open_dns_server(zone) as server:
        return {report.name: report async for report in check_mail(make_settings(server, **changed))}


async def test_a_domain_with_all_records_is_ready() -> None:
    reports = await check(GOOD)
    assert list(reports) == ["spf", "dkim", "dmarc", "return path", "domains"]
    assert {name: (report.problems, report.notes) for name, report in reports.items()} == {
        name: ([], []) for name in reports
    }


async def test_a_bare_domain_is_told_every_record_to_add() -> None:
    reports = await check({})
    assert reports["spf"].misconfigured == [
        f"no record: add {DOMAIN} TXT 'v=spf1 include:_spf.google.com ~all'"
    ]
    assert reports["dkim"].misconfigured == [
        f"no record: add s1._domainkey.{DOMAIN} TXT {RSA.record!r}",
        f"no record: add s2._domainkey.{DOMAIN} TXT {ED.record!r}",
    ]
    assert "add _dmarc.acme.de TXT 'v=DMARC1; p=none; " in reports["dmarc"].misconfigured[0]
    assert f"add {DOMAIN} MX" in reports["return path"].misconfigured[0]
    assert "PRIVATE" not in json.dumps([report.show() for report in reports.values()])


@pytest.mark.parametrize(
    ("name", "texts", "report", "told"),
    [
        (DOMAIN, ["v=spf1 mx -all"], "spf", "add include:_spf.google.com"),
        (DOMAIN, ["v=spf1 include:_spf.google.com +all"], "spf", "allows every server"),
        (DOMAIN, ["v=spf1 -all", "v=spf1 mx -all"], "spf", "2 records"),
        (f"s1._domainkey.{DOMAIN}", ["v=DKIM1; k=rsa; p="], "dkim", "is revoked"),
        (f"s1._domainkey.{DOMAIN}", [ED.record], "dkim", "another key"),
        (f"s2._domainkey.{DOMAIN}", [f"v=DKIM1; p={ED.public}"], "dkim", "another algorithm"),
        ("_dmarc.acme.de", ["v=DMARC1; rua=mailto:a@acme.de"], "dmarc", "no policy"),
        ("_dmarc.acme.de", ["v=DMARC1; p=none", "v=DMARC1; p=reject"], "dmarc", "2 records"),
        (f"_dmarc.{DOMAIN}", ["v=DMARC1; p=quarantin"], "dmarc", "no policy"),
    ],
)
async def test_a_wrong_record_is_named(name: str, texts: list[str], report: str, told: str) -> None:
    changed = {**GOOD, name: {"TXT": [quote(text) for text in texts], "MX": ["10 mx.acme.de."]}}
    reports = await check(changed)
    assert any(told in problem for problem in reports[report].misconfigured), reports[report]
    assert not [other for other in reports.values() if other.name != report and other.problems]


async def test_an_envelope_of_another_domain_is_the_one_that_counts() -> None:
    reports = await check(
        GOOD,
        MAIL_RETURN_PATH=f"bounce@b.{DOMAIN}",
        SMTP_URL="smtp://mx.acme.de:25",
        DKIM_KEY="",
        DKIM_SELECTOR="",
    )
    assert not [report for report in reports.values() if report.problems]
    foreign = await check(
        GOOD,
        MAIL_RETURN_PATH="bounce@bounces.other.de",
        SMTP_URL="smtp://mx.acme.de:25",
        DKIM_KEY="",
        DKIM_SELECTOR="",
    )
    assert "neither SPF nor DKIM is aligned" in foreign["dmarc"].misconfigured[0]
    assert "bounces are lost" in foreign["return path"].misconfigured[0]


async def test_what_works_but_should_be_known_is_a_note() -> None:
    reports = await check(GOOD, MAIL_RETURN_PATH=f"bounce@b.{DOMAIN}", PUBLIC_URL="https://acme-login.com")
    assert "smtp.gmail.com replaces the envelope sender" in reports["return path"].notes[0]
    assert "Apple" in reports["domains"].notes[0]
    assert not reports["domains"].problems


async def test_a_silent_dns_is_an_outage_and_no_advice() -> None:
    names = [DOMAIN, f"s1._domainkey.{DOMAIN}", f"s2._domainkey.{DOMAIN}", f"_dmarc.{DOMAIN}"]
    zone: Zone = dict.fromkeys(names, FAILING)
    reports = await check(zone)
    for name in ("spf", "dkim", "dmarc", "return path"):
        assert reports[name].unavailable, name
        assert not reports[name].misconfigured, name
