"""What every answer tells a browser, whatever was asked."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.services import Service, run_test_service

REQUESTS = (
    ("GET", "/healthz"),
    ("GET", "/openapi.json"),
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/confirm"),
    ("GET", "/static/brand.css"),
    ("GET", "/nothing"),
    ("GET", "/api/v1/me"),
    ("POST", "/api/v1/register"),
    ("DELETE", "/api/v1/login"),
    ("OPTIONS", "/api/v1/login"),
    ("GET", "/api/v1/confirm-email?token=x"),
)


@pytest.mark.parametrize(("method", "path"), REQUESTS)
async def test_every_answer_is_taken_for_what_it_is_and_framed_by_nobody(
    shared_service: Service, method: str, path: str
) -> None:
    headers = (await shared_service.client.request(method, path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & set(headers["Content-Security-Policy"].split())
    assert "Server" not in headers
    assert "Strict-Transport-Security" not in headers  # people reach this one by plain HTTP


async def test_browsers_come_back_by_tls_alone_where_people_reach_the_service_by_it(
    database: str, tmp_path: Path
) -> None:
    """TLS ends at a proxy, so that a request here is plain: what counts is the URL in the mails."""
    environ = {"REGSVC_PUBLIC_URL": "https://accounts.example.org"}
    async with run_test_service(database, tmp_path, environ) as service:
        for method, path in REQUESTS:
            headers = (await service.client.request(method, path)).headers
            assert headers["Strict-Transport-Security"] == "max-age=31536000"


async def test_trace_and_other_methods_are_not_taken(shared_service: Service) -> None:
    for method in ("TRACE", "TRACK", "CONNECT", "PROPFIND"):
        answer = await shared_service.client.request(method, "/api/v1/me")
        assert answer.status_code in {400, 405, 501}


async def ask_in_every_way(service: Service) -> list[httpx.Response]:
    """Return an answer of every kind: of the API, of its framework, of the server, of a page and of a file."""
    client = service.client
    return [
        await client.get("/healthz"),
        await client.post("/api/v1/login", json={"email": "ann@example.com", "password": "a wrong one"}),
        await client.post("/api/v1/login", json={}),
        await client.get("/nothing"),
        await client.get("/api/v1/register"),
        await client.options("/api/v1/register"),
        await client.get("/confirm"),
        await client.get("/static/style.css"),
        await client.post("/api/v1/register", content=b" " * 16_385),
        await client.get("/healthz", headers={"Expect": "a-miracle"}),
    ]


async def test_whoever_answers_the_api_the_framework_or_the_server_says_it(shared_service: Service) -> None:
    answers = await ask_in_every_way(shared_service)
    assert [answer.status_code for answer in answers] == [200, 401, 400, 404, 405, 200, 200, 200, 413, 417]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Request-Id"]
        assert "Server" not in answer.headers
