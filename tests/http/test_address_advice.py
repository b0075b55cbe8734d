"""Advice on addresses over HTTP: of real records, within limits, and never a reason to refuse a sign-up."""

from __future__ import annotations

from pathlib import Path

from regsvc.flows.signup.address_advice import ADVICE
from tests.dns_servers import SILENT, Zone, open_dns_server
from tests.services import PASSWORD, run_test_service

ZONE: Zone = {
    "takes-mail.de": {"MX": ["10 mx.takes-mail.de."]},
    "gmaim.com": {"MX": ["0 ."]},
    "slow.de": SILENT,
}


async def test_advice_tells_a_slip_from_a_domain_with_mail_and_from_a_slow_dns(
    database: str, tmp_path: Path
) -> None:
    async with (
        open_dns_server(ZONE) as server,
        run_test_service(database, tmp_path, {"REGSVC_DNS_SERVER": server.setting}) as service,
    ):
        given = {}
        for domain in ("takes-mail.de", "gmaim.com", "slow.de", "gmial.com", "gone.de"):
            answer = await service.post("/address-advice", {"email": f"ann@{domain}"})
            assert answer.status_code == 200
            given[domain] = answer.json()
        assert given == {
            "takes-mail.de": {"suggestion": None, "problem": None},
            "gmaim.com": {"suggestion": "ann@gmail.com", "problem": "takes_no_mail"},
            "slow.de": {"suggestion": None, "problem": None},
            "gmial.com": {"suggestion": "ann@gmail.com", "problem": None},
            "gone.de": {"suggestion": None, "problem": "takes_no_mail"},
        }
        assert (await service.post("/address-advice", {"email": "a" * 400})).status_code == 400


async def test_a_sign_up_asks_no_dns_and_takes_what_advice_warns_of(database: str, tmp_path: Path) -> None:
    async with (
        open_dns_server({}) as server,
        run_test_service(database, tmp_path, {"REGSVC_DNS_SERVER": server.setting}) as service,
    ):
        await service.sign_up("ann@gone.de")
        form = {"name": "Bob", "email": "bob@gone.de", "password": PASSWORD}
        page = await service.client.post("/signup", data=form, headers={"Sec-Fetch-Site": "same-origin"})
        assert page.status_code == 303
        assert not server.asked


async def test_advice_is_limited_before_the_dns_is_asked(database: str, tmp_path: Path) -> None:
    async with open_dns_server({}) as server:
        environ = {"REGSVC_DNS_SERVER": server.setting, "REGSVC_RATE_LIMITS": "on"}
        async with run_test_service(database, tmp_path, environ) as service:
            for _ in range(ADVICE.quota):
                answer = await service.post("/address-advice", {"email": "ann@gmail.com"})
                assert answer.status_code == 200
            refused = await service.post("/address-advice", {"email": "ann@gone.de"})
            assert refused.status_code == 429
            assert refused.json()["code"] == "rate_limited"
            assert not server.asked
