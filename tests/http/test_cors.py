"""Pages of the origins that the operator lists may call the API from a browser, and those of no others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.services import PASSWORD, Service, run_test_service

SHOP = "https://shop.example"
BODY = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that another site's pages may call."""
    environ = {"REGSVC_ALLOWED_ORIGINS": f"{SHOP},https://www.shop.example"}
    async with run_test_service(database, tmp_path, environ) as service:
        yield service


async def ask_before(service: Service, path: str, method: str, origin: str = SHOP) -> httpx.Response:
    """Send what a browser sends before a request that a form could not make (a preflight)."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type,regsvc-handle",
    }
    return await service.client.options(path, headers=headers)


def names(value: str) -> set[str]:
    return {name.strip().lower() for name in value.split(",")}


def cors_headers(answer: httpx.Response) -> set[str]:
    return {name for name in answer.headers if name.startswith("access-control-")}


async def test_a_listed_page_may_send_what_the_api_takes(service: Service) -> None:
    before = await ask_before(service, "/api/v1/register", "POST")
    assert before.status_code == 200
    assert before.content == b""
    assert before.headers["Access-Control-Allow-Origin"] == SHOP
    assert "post" in names(before.headers["Access-Control-Allow-Methods"])
    assert names(before.headers["Access-Control-Allow-Headers"]) >= {
        "authorization",
        "content-type",
        "idempotency-key",
        "if-match",
        "regsvc-handle",
        "traceparent",
        "tracestate",
    }
    assert 0 < int(before.headers["Access-Control-Max-Age"]) <= 7200
    assert "Origin" in before.headers["Vary"]


async def test_a_listed_page_may_read_the_answer_and_its_headers(service: Service) -> None:
    answer = await service.post("/register", BODY, {"Origin": SHOP})
    assert answer.status_code == 201
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert names(answer.headers["Access-Control-Expose-Headers"]) >= {
        "location",
        "regsvc-handle",
        "retry-after",
        "ratelimit",
        "ratelimit-policy",
        "x-request-id",
    }
    assert names(answer.headers["Vary"]) == {"origin", "prefer"}


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://shop.example",
        "https://shop.example:8443",
        "https://shop.example.evil.example",
        "https://sub.shop.example",
        "https://SHOP.example",
        "https://shop.example/",
        "null",
        "*",
        "",
    ],
)
async def test_a_page_of_any_other_origin_may_not(service: Service, origin: str) -> None:
    before = await ask_before(service, "/api/v1/register", "POST", origin)
    answer = await service.post("/register", BODY, {"Origin": origin})
    for each in (before, answer):
        assert not cors_headers(each)
        assert "Origin" in each.headers["Vary"]


async def test_no_page_may_send_what_the_browser_keeps(service: Service) -> None:
    before = await ask_before(service, "/api/v1/me", "GET")
    answer = await service.client.get("/api/v1/me", headers={"Origin": SHOP})
    for each in (before, answer):
        assert each.headers["Access-Control-Allow-Origin"] == SHOP
        assert "Access-Control-Allow-Credentials" not in each.headers


async def test_problems_can_be_read_too_and_our_own_pages_are_of_no_other_site(service: Service) -> None:
    missing = await service.client.get("/api/v1/nothing", headers={"Origin": SHOP})
    own = await service.client.get("/api/v1/me", headers={"Origin": service.settings.public_url})
    keys = await service.client.get("/.well-known/jwks.json", headers={"Origin": SHOP})
    page = await service.client.get("/confirm", headers={"Origin": SHOP})
    assert missing.status_code == 404
    assert missing.headers["Access-Control-Allow-Origin"] == SHOP
    assert own.headers["Access-Control-Allow-Origin"] == service.settings.public_url
    assert keys.headers["Access-Control-Allow-Origin"] == SHOP
    assert not cors_headers(page)


async def test_a_program_sends_no_origin_and_is_told_nothing_of_it(service: Service) -> None:
    answer = await service.post("/register", BODY)
    assert answer.status_code == 201
    assert not cors_headers(answer)
    assert "Origin" in answer.headers["Vary"]
