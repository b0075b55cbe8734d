"""Families behind domains of their own: learned by MX beside the sending, and held together when they throttle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from regsvc.accounts.registrations.mail_status import begin_sending
from regsvc.consumer.sending import exchangers
from regsvc.consumer.sending.exchangers import Exchangers
from regsvc.consumer.sending.throttled import hold_throttled
from regsvc.dns.resolver import Resolver
from regsvc.mail.queue import families, jobs
from tests.accounts.attempts import sign_up
from tests.dns_servers import SILENT, Zone, open_dns_server

if TYPE_CHECKING:
    from uuid import UUID

    import pytest

    from regsvc.accounts.mails.turns import AnyLetter
    from regsvc.postgres.pool import Pool

ZONE: Zone = {
    "company.de": {"MX": ["10 aspmx.l.google.com."]},
    "firm.de": {"MX": ["10 firm-de.mail.protection.outlook.com."]},
    "own.de": {"MX": ["10 mx.own.de."]},
    "slow.de": SILENT,
}


async def learn(known: Exchangers, *domains: str) -> None:
    """Have domains looked up, and wait until each was."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(known.learn)
        known.note(domains)
        with trio.fail_after(10):
            while known._waiting:  # noqa: ASYNC110 - a courier does not wait for it, so there is no event
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


async def test_a_domain_counts_to_the_service_that_has_its_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchangers, "_PATIENCE", 0.1)
    async with open_dns_server(ZONE) as server:
        known = Exchangers(Resolver([("127.0.0.1", server.port)]))
        assert known.key("company.de") == "company.de"
        await learn(known, *ZONE, "gmail.com", "gmx.de", "example.com", "printer.local")
        keys = {name: known.key(name) for name in (*ZONE, "gmail.com", "gmx.de")}
        assert keys == {
            "company.de": "google",
            "firm.de": "microsoft",
            "own.de": "own.de",
            "slow.de": "slow.de",
            "gmail.com": "google",
            "gmx.de": "gmx.de",
        }
        assert {name for name, _ in server.asked} == set(ZONE)
        before = server.asked.total()
        await learn(known, "company.de", "own.de")
        assert server.asked.total() == before


async def test_a_company_at_a_throttling_service_waits_with_it(pool: Pool) -> None:
    async with open_dns_server(ZONE) as server:
        known = Exchangers(Resolver([("127.0.0.1", server.port)]))
        await learn(known, "company.de", "own.de")
    mails = {domain: (await sign_up(pool, f"ann@{domain}")).mail_id for domain in ("company.de", "own.de")}
    async with pool.transaction() as conn:
        await families.hold_families(conn, ["google"])
        claimed = await jobs.claim_mails(conn, list(mails.values()))
        begun = await begin_sending(conn, [job.id for job in claimed])
        letters: dict[UUID, AnyLetter] = {letter.mail_id: letter for letter in begun}
        held = await hold_throttled(conn, claimed, letters, find_key=known.key)
    assert held.held == {mails["company.de"]}
    assert set(letters) == {mails["own.de"]}
