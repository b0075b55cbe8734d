"""Who may sign up, and on what conditions: the same for every address, whoever has it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from regsvc.postgres.pool import Pool
from tests.services import PASSWORD, Service, run_test_service

OWN = {"Sec-Fetch-Site": "same-origin"}
TERMS = {"version": "2026-01", "url": "https://example.org/terms"}
KNOWN, UNKNOWN = "ann@example.com", "bob@example.com"


Run = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
async def run(database: str, tmp_path: Path) -> Run:
    """Runs services on one database, where Ann has an account."""

    def start(**environ: str) -> AbstractAsyncContextManager[Service]:
        named = {f"REGSVC_{name.upper()}": value for name, value in environ.items()}
        return run_test_service(database, tmp_path, named)

    async with start() as service:
        await service.confirm(KNOWN)
    return start


async def register(service: Service, address: str, **more: str) -> tuple[int, Any]:
    body = {"email": address, "password": PASSWORD, "name": "Ann", **more}
    answer = await service.post("/register", body)
    told = answer.json()
    told.pop("request_id", None)
    return answer.status_code, told


async def count(pool: Pool, table: str) -> int:
    async with pool.connection() as conn:
        cursor = await conn.execute(f"SELECT count(*) FROM {table}".encode())
        return int((await cursor.fetchone() or [0])[0])


@pytest.mark.parametrize(("mode", "code"), [("closed", "signup_closed"), ("invite", "invitation_needed")])
async def test_a_closed_door_is_shut_for_all_alike(run: Run, pool: Pool, mode: str, code: str) -> None:
    async with run(signup=mode) as service:
        before = (
            await count(pool, "registrations"),
            await count(pool, "mails"),
            await count(pool, "throttles"),
        )
        refused = [await register(service, address) for address in (KNOWN, UNKNOWN)]
        assert refused[0] == refused[1]
        assert (refused[0][0], refused[0][1]["code"]) == (403, code)
        form = {"name": "Ann", "email": UNKNOWN, "password": PASSWORD}
        assert (await service.client.post("/signup", data=form, headers=OWN)).status_code == 403
        after = await count(pool, "registrations"), await count(pool, "mails"), await count(pool, "throttles")
        assert before == after
        page = await service.client.get("/signup")
        assert page.status_code == 200
        assert "<form" not in page.text
        assert ("by invitation" in page.text) is (mode == "invite")
        assert "/signup" not in (await service.client.get("/login")).text
        await service.log_in(KNOWN)  # who has an account is not concerned


async def test_a_sign_up_made_before_the_door_was_shut_can_be_confirmed(run: Run) -> None:
    async with run() as service:
        await service.sign_up(UNKNOWN)
        token = (await service.wait_mail(UNKNOWN)).token
    async with run(signup="closed") as service:
        assert (await service.post("/confirm-email", {"token": token})).status_code == 200
        await service.log_in(UNKNOWN)


async def test_a_denied_domain_is_refused_wherever_an_address_gets_into_an_account(
    run: Run, pool: Pool
) -> None:
    async with run(domains_deny="example.net,*.example.net") as service:
        for address in ("ann@example.net", "ann@EXAMPLE.net", "ann@a.example.net"):
            status, told = await register(service, address)
            assert (status, told["code"]) == (422, "domain_not_allowed")
            assert told["errors"][0]["pointer"] == "/email"
        signed_up = await service.sign_up(UNKNOWN)
        handle = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
        changed = await service.client.patch(
            signed_up.headers["Location"], json={"email": "bob@example.net"}, headers=handle
        )
        assert (changed.status_code, changed.json()["code"]) == (422, "domain_not_allowed")
        ann = await service.log_in(KNOWN)
        before = await count(pool, "mails")
        asked = await service.post("/me/email", {"email": "ann@example.net", "password": "wrong"}, ann)
        assert (asked.status_code, asked.json()["code"]) == (422, "domain_not_allowed")
        assert await count(pool, "mails") == before
        typed = {"name": "Bob", "email": "bob@example.net", "password": PASSWORD}
        told = (await service.client.post("/signup/check", json=typed, headers=OWN)).json()
        assert "domain" in told["faults"]["email"]


async def test_a_domain_is_judged_alike_with_and_without_an_account(run: Run) -> None:
    async with run(domains_allow="example.org") as service:
        first, second = [await register(service, address) for address in (KNOWN, UNKNOWN)]
        assert first == second
        assert first[0] == 422
        await service.log_in(KNOWN)


async def test_terms_are_accepted_by_their_present_version_alone(run: Run, pool: Pool) -> None:
    async with run(terms="2026-01=https://example.org/terms") as service:
        for given in ({}, {"terms": ""}, {"terms": "2025-12"}):
            refused = [await register(service, address, **given) for address in (KNOWN, UNKNOWN)]
            assert refused[0] == refused[1]
            assert (refused[0][0], refused[0][1]["code"]) == (422, "terms_needed")
            assert refused[0][1]["terms"] == TERMS
        assert (await register(service, UNKNOWN, terms="2026-01"))[0] == 201
        token = (await service.wait_mail(UNKNOWN)).token
        assert (await service.post("/confirm-email", {"token": token})).status_code == 200
        bob = await service.log_in(UNKNOWN)
        shown = (await service.client.get("/api/v1/me/terms", headers=bob)).json()
        assert (shown["accepted"], shown["present"]) == ("2026-01", TERMS)
        await service.prove(bob)
        exported = (await service.client.get("/api/v1/me/export", headers=bob)).json()
        assert exported["terms"] == [{"version": "2026-01", "accepted_at": shown["accepted_at"]}]
        assert exported["registrations"][0]["terms"] == "2026-01"


async def test_a_new_version_is_asked_for_on_the_account_page_until_it_is_accepted(
    run: Run, pool: Pool
) -> None:
    asked = "Accept our terms of use"
    async with run() as service:
        await open_account(service)
        assert asked not in (await service.client.get("/account")).text
    async with run(terms="2026-01=https://example.org/terms") as service:
        await open_account(service)
        page = (await service.client.get("/account")).text
        assert asked in page
        assert 'href="https://example.org/terms"' in page
        assert " checked" not in page
        post = partial(service.client.post, "/account/terms", headers=OWN)
        assert (await post(data={"terms": ""})).status_code == 422
        assert asked in (await service.client.get("/account")).text
        assert (await post(data={"terms": "2026-01"})).headers["Location"] == "/account?done=terms#terms"
        assert asked not in (await service.client.get("/account")).text
    async with run(terms="2026-02=https://example.org/terms") as service:
        await open_account(service)
        assert asked in (await service.client.get("/account")).text
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT details FROM audit_events WHERE event = 'terms_accepted'")
        assert await cursor.fetchall() == [({"version": "2026-01"},)]


async def open_account(service: Service) -> httpx.Response:
    form = {"email": KNOWN, "password": PASSWORD}
    answer = await service.client.post("/login", data=form, headers=OWN)
    assert answer.status_code == 303
    return answer


async def test_the_box_is_on_the_form_and_is_not_ticked(run: Run) -> None:
    async with run(terms="2026-01=https://example.org/terms") as service:
        page = (await service.client.get("/signup")).text
        assert 'type="checkbox" id="terms" name="terms" value="2026-01"' in page
        assert " checked" not in page
        form = {"name": "Bob", "email": UNKNOWN, "password": PASSWORD}
        refused = await service.client.post("/signup", data=form, headers=OWN)
        assert refused.status_code == 422
        assert "Accept the terms of use" in refused.text
        taken = await service.client.post("/signup", data=form | {"terms": "2026-01"}, headers=OWN)
        assert taken.status_code == 303


async def test_a_request_without_terms_has_the_digest_that_older_programs_give_it() -> None:
    """Versions side by side know a repeated request by the digest of its body."""
    from regsvc.flows.signup.signup import RegisterBody  # noqa: PLC0415 - of this test alone

    body = RegisterBody(email=UNKNOWN, password=PASSWORD, name="Bob")
    assert body.model_dump_json() == f'{{"email":"{UNKNOWN}","password":"{PASSWORD}","name":"Bob"}}'
