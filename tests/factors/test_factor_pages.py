"""The second step of a login, the proof and the security page, as browsers send their forms."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from http import HTTPStatus
from uuid import uuid4

import httpx
import pytest

from regsvc.mail.message.languages import LOCALES
from regsvc.postgres.pool import Pool
from tests.factors.people import own_app_of
from tests.http.factor_calls import code_of
from tests.services import PASSWORD, Service

OWN = {"Sec-Fetch-Site": "same-origin"}
SECURITY = "/account/security"


async def submit(service: Service, path: str, **form: str) -> httpx.Response:
    return await service.client.post(path, data=form or {"": ""}, headers=OWN)


async def log_in(service: Service, address: str) -> httpx.Response:
    return await submit(service, "/login", email=address, password=PASSWORD)


@pytest.fixture
async def address(shared_service: Service) -> AsyncIterator[str]:
    """The address of a user; the client of the service has no cookies before and after."""
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address)
    yield address
    shared_service.client.cookies.clear()


async def set_up(service: Service) -> tuple[str, list[str]]:
    """Set up an app on the pages, and return its secret and the recovery codes."""
    assert (await submit(service, "/account/proof?for=security", password=PASSWORD)).status_code == 303
    assert (await submit(service, f"{SECURITY}/totp")).headers["Location"] == f"{SECURITY}#totp"
    page = (await service.client.get(SECURITY)).text
    key = re.search(r'class="key">([A-Z2-7 ]+)<', page)
    assert key
    secret = key[1].replace(" ", "")
    confirmed = await submit(service, f"{SECURITY}/totp/confirm", code=code_of(secret))
    assert confirmed.status_code == 200, confirmed.text
    assert confirmed.headers["Cache-Control"] == "no-store"
    return secret, re.findall(r"\b[0-9A-Z]{5}-[0-9A-Z]{5}\b", confirmed.text)


async def test_an_app_is_set_up_used_and_removed(shared_service: Service, address: str) -> None:
    await log_in(shared_service, address)
    for path in ("totp", "totp/remove", "recovery-codes"):
        refused = await submit(shared_service, f"{SECURITY}/{path}")
        assert refused.headers["Location"] == "/account/proof?for=security"
    assert (await shared_service.client.get(f"{SECURITY}/totp.svg")).status_code == 404
    secret, codes = await set_up(shared_service)
    assert len(set(codes)) == 10
    await submit(shared_service, "/logout")
    first = await log_in(shared_service, address)
    assert (first.status_code, first.headers["Location"]) == (HTTPStatus.SEE_OTHER, "/login/second-factor")
    assert "regsvc-session=" not in first.headers["Set-Cookie"]
    assert "HttpOnly" in first.headers["Set-Cookie"]
    assert (await shared_service.client.get("/account")).headers["Location"] == "/login"
    assert (await shared_service.client.get("/login/second-factor")).status_code == 200
    wrong = await submit(shared_service, "/login/second-factor", code="000000")
    assert wrong.status_code == HTTPStatus.UNAUTHORIZED
    assert "This code is wrong" in wrong.text
    right = await submit(shared_service, "/login/second-factor", code=code_of(secret, 1))
    assert right.headers["Location"] == "/account"
    assert (await shared_service.client.get("/account")).status_code == 200
    assert (await shared_service.client.get("/login/second-factor")).headers["Location"] == "/login"
    assert codes[0] not in (await shared_service.client.get(SECURITY)).text
    await submit(shared_service, "/account/proof?for=security", password=PASSWORD)
    renewed = await submit(shared_service, f"{SECURITY}/recovery-codes")
    assert not {*codes} & {*re.findall(r"\b[0-9A-Z]{5}-[0-9A-Z]{5}\b", renewed.text)}
    removed = await submit(shared_service, f"{SECURITY}/totp/remove")
    assert removed.headers["Location"] == f"{SECURITY}?done=totp#totp"
    await submit(shared_service, "/logout")
    assert (await log_in(shared_service, address)).headers["Location"] == "/account"


async def test_a_recovery_code_opens_the_account(shared_service: Service, pool: Pool, address: str) -> None:
    del pool
    await log_in(shared_service, address)
    _, codes = await set_up(shared_service)
    await submit(shared_service, "/logout")
    await log_in(shared_service, address)
    answer = await submit(shared_service, "/login/second-factor", recovery_code=codes[3].lower())
    assert answer.headers["Location"] == "/account"
    assert "9 of 10" in (await shared_service.client.get(SECURITY)).text


async def test_the_qr_code_is_drawn_for_the_session_that_proved_its_user_alone(
    shared_service: Service, address: str
) -> None:
    await log_in(shared_service, address)
    other = dict(shared_service.client.cookies)
    shared_service.client.cookies.clear()
    await log_in(shared_service, address)
    await submit(shared_service, "/account/proof?for=security", password=PASSWORD)
    await submit(shared_service, f"{SECURITY}/totp")
    drawn = await shared_service.client.get(f"{SECURITY}/totp.svg")
    assert drawn.status_code == 200
    assert drawn.headers["Content-Type"].startswith("image/svg+xml")
    assert drawn.headers["Cache-Control"] == "no-store"
    assert "<script" not in drawn.text
    assert "style" not in drawn.text
    policy = (await shared_service.client.get(SECURITY)).headers["Content-Security-Policy"]
    assert "img-src data: 'self'" in policy
    shared_service.client.cookies.clear()
    shared_service.client.cookies.update(other)
    await submit(shared_service, "/account/proof?for=security", password=PASSWORD)
    assert (await shared_service.client.get(f"{SECURITY}/totp.svg")).status_code == 404
    assert 'class="key"' not in (await shared_service.client.get(SECURITY)).text


async def test_a_login_that_is_over_leads_back_to_the_first_step(service: Service, pool: Pool) -> None:
    await service.confirm()
    owner = await own_app_of(pool)
    await log_in(service, "ann@example.com")
    async with pool.connection() as conn:
        await conn.execute("UPDATE pending_logins SET expires_at = now()")
    answer = await submit(service, "/login/second-factor", code=owner.code())
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert "That took too long" in answer.text
    assert 'action="/login"' in answer.text


@pytest.mark.parametrize("path", ["/login/second-factor", "/account/proof"])
async def test_no_other_sites_form_is_taken(path: str, shared_service: Service) -> None:
    answer = await shared_service.client.post(
        path, data={"code": "123456"}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert answer.json()["code"] == "origin_not_allowed"


async def test_a_proof_leads_nowhere_else(shared_service: Service, address: str) -> None:
    await log_in(shared_service, address)
    for target in ("https://evil.example", "//evil.example", "", "x"):
        answer = await shared_service.client.post(
            "/account/proof", params={"for": target}, data={"password": PASSWORD}, headers=OWN
        )
        assert answer.headers["Location"] == SECURITY


@pytest.mark.parametrize("language", LOCALES)
async def test_the_pages_are_shown_in_every_language(
    language: str, shared_service: Service, address: str
) -> None:
    wanted = {"Accept-Language": f"{language}, en;q=0.5"}
    await log_in(shared_service, address)
    bearer = await shared_service.log_in(address)
    await shared_service.client.patch("/api/v1/me", json={"locale": language}, headers=bearer)
    await set_up(shared_service)
    pages = [await shared_service.client.get(path, headers=wanted) for path in (SECURITY, "/account/proof")]
    await submit(shared_service, "/logout")
    await log_in(shared_service, address)
    pages.append(await shared_service.client.get("/login/second-factor", headers=wanted))
    for page in pages:
        assert page.status_code == 200
        assert f'<html lang="{language}">' in page.text
        # Scripts, and what they fill in.
        for_scripts = r'<script.*?</script>|data-text="[^"]*"'
        assert "{" not in re.sub(for_scripts, "", page.text, flags=re.DOTALL)
