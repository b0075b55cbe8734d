"""Whatever comes in is answered as a problem, nothing of it is stored, and nothing ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from uuid import uuid4

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed

from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets, mint_link_token
from tests.services import PASSWORD, SECRET, Service
from tests.websockets import open_socket

JSON = {"Content-Type": "application/json"}
GOOD = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}


@pytest.fixture
async def service(shared_service: Service) -> AsyncIterator[Service]:
    """A running service in which nothing is stored by the test, and which lives on."""
    before = await count_rows(shared_service)
    yield shared_service
    assert await count_rows(shared_service) == before
    assert (await shared_service.client.get("/healthz")).status_code == 200


async def count_rows(service: Service) -> list[object]:
    """Count what a request could have stored."""
    async with await Connection.connect(service.settings.database_url.get_secret_value()) as conn:
        cursor = await conn.execute(
            "SELECT (SELECT count(*) FROM registrations), (SELECT count(*) FROM mails), (SELECT count(*) FROM users)"
        )
        return list(await cursor.fetchall())


def check_problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Check that an answer is a whole problem."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["error"] == body["detail"] != ""
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert {"type", "title", "instance"} <= set(body)
    return body


def register_body(**changes: object) -> bytes:
    return json.dumps({**GOOD, **changes}).encode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="missing"),
        pytest.param(b"   ", id="blank"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"no json", id="not json"),
        pytest.param(b"[]", id="not an object"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b"\xff\xfe", id="not utf-8"),
        pytest.param(b"\xef\xbb\xbf" + register_body(), id="byte order mark"),
        pytest.param(register_body().replace(b"Ann", rb"\ud800"), id="lone surrogate"),
        pytest.param(register_body().replace(b"Ann", rb"A\u0000n"), id="nul"),
        pytest.param(register_body().replace(b"Ann", b"A\x00n"), id="raw nul"),
        pytest.param(b'{"name": "x", ' + register_body()[1:], id="duplicate key"),
        pytest.param(b'{"x": ' + b"[" * 8000 + b"]" * 8000 + b"}", id="nested too deeply"),
        pytest.param(b'{"a": {"b": {"a": 1, "a": 2}}, ' + register_body()[1:], id="duplicate key inside"),
        pytest.param(b'{"n": ' + b"9" * 5000 + b", " + register_body()[1:], id="5000 digits"),
        pytest.param(b'{"n": NaN, ' + register_body()[1:], id="NaN"),
        pytest.param(b'{"n": -Infinity, ' + register_body()[1:], id="Infinity"),
        pytest.param(register_body() + b"{}", id="two values"),
        pytest.param(register_body(email=None), id="null address"),
        pytest.param(register_body(email=1), id="number as address"),
        pytest.param(register_body(email=["a@b.example"]), id="list as address"),
        pytest.param(register_body(email={}), id="object as address"),
        pytest.param(register_body(password=12345678), id="number as password"),
        pytest.param(register_body(name=True), id="boolean as name"),
        pytest.param(register_body(name=""), id="empty name"),
        pytest.param(register_body(name="  \u2003 "), id="blank name"),
        pytest.param(register_body(name="A\nB"), id="line break in name"),
        pytest.param(register_body(name="x" * 201), id="long name"),
        pytest.param(b'{"email": "ann@example.com"}', id="fields missing"),
    ],
)
async def test_a_body_of_the_wrong_shape_is_400(service: Service, body: bytes) -> None:
    answer = await service.client.post("/api/v1/register", content=body, headers=JSON)
    check_problem(answer, 400, "validation_failed")


async def test_what_is_wrong_is_named_field_by_field(service: Service) -> None:
    answer = await service.client.post("/api/v1/register", content=b'{"email": "x", "name": 1}', headers=JSON)
    body = check_problem(answer, 400, "validation_failed")
    assert isinstance(body["errors"], list)
    assert {error["pointer"]: error["code"] for error in body["errors"]} == {
        "/email": "invalid_address",
        "/password": "missing",
        "/name": "invalid",
    }


async def test_a_100_000_bracket_body_is_too_large(service: Service) -> None:
    answer = await service.client.post("/api/v1/register", content=b"[" * 100_000, headers=JSON)
    check_problem(answer, 413, "body_too_large")


async def test_a_body_over_16_kib_is_413_also_in_pieces(service: Service) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * 1024

    whole = await service.client.post("/api/v1/register", content=b" " * 16_385, headers=JSON)
    check_problem(whole, 413, "body_too_large")
    chunked = await service.client.post("/api/v1/register", content=pieces(), headers=JSON)
    check_problem(chunked, 413, "body_too_large")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/jsonp",
        "json",
    ],
)
async def test_a_body_that_is_not_sent_as_json_is_415(service: Service, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await service.client.post("/api/v1/register", content=register_body(), headers=headers)
    check_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "address",
    [
        "ann", "@example.com", "ann@", "ann@example", "ann@@example.com", "ann@example..com", "ann@-example.com",
        "ann@example.com\r\nBcc: bob@example.com", "ann\n@example.com", "ann\r@example.com", "\tann\t@example.com",
        "=?utf-8?q?ann?=@example.com", "ann@example.com, bob@example.com", "ann@example.com;bob@example.com",
        "friends: ann@example.com;", "Ann <ann@example.com>", "<ann@example.com", '"ann b"@example.com',
        '"ann"@example.com', "ann@[192.0.2.1]", "ann@[IPv6:2001:db8::1]", "ann@192.0.2.1", "ann(x)@example.com",
        "a" * 65 + "@example.com", "ann@" + "a" * 64 + ".com", "ann@" + "a." * 130 + "com", "ann @example.com",
        "ann@exam ple.com", "ann\u0000@example.com", "ann\u2028@example.com", "ann\u202e@example.com", "..@example.com",
        "ann.@example.com", ".ann@example.com", "ann@xn--a.com", "", " ",
    ],
)  # fmt: skip
async def test_what_is_not_one_plain_address_is_refused(service: Service, address: str) -> None:
    answer = await service.client.post("/api/v1/register", content=register_body(email=address), headers=JSON)
    body = check_problem(answer, 400, "validation_failed")
    assert isinstance(body["errors"], list)
    assert body["errors"][0]["pointer"] == "/email"


@pytest.mark.parametrize(
    "password", ["", "1234567", "p" * 129, "ann@example.com", "ANN@EXAMPLE.COM", "密" * 7], ids=repr
)
async def test_a_password_against_the_policy_is_422(service: Service, password: str) -> None:
    answer = await service.client.post(
        "/api/v1/register", content=register_body(password=password), headers=JSON
    )
    body = check_problem(answer, 422, "weak_password")
    assert password == "" or password not in answer.text.replace("ann@example.com", "")
    assert isinstance(body["errors"], list)
    assert body["errors"][0]["pointer"] == "/password"


async def test_a_password_that_is_the_name_is_422(service: Service) -> None:
    answer = await service.client.post(
        "/api/v1/register",
        content=register_body(password="Ann of Cleves", name="ann OF cleves"),
        headers=JSON,
    )
    check_problem(answer, 422, "weak_password")


async def test_tokens_that_are_wrong_cut_or_lengthened_are_invalid(service: Service) -> None:
    token = mint_link_token(Secrets(SECRET.encode()), uuid4(), "ann@example.com")
    for text in (
        token,
        token[:-1],
        token + "A",
        token[:-1] + "!",
        "",
        "A",
        "A" * 64,
        "é" * 64,
        "A" * 512,
        "\u0000",
    ):
        for path in ("/confirm-email", "/confirm-email/repudiate"):
            check_problem(await service.post(path, {"token": text}), 400, "token_invalid")
    check_problem(await service.post("/confirm-email", {"token": "A" * 513}), 400, "validation_failed")
    check_problem(await service.post("/confirm-email", {"token": 1}), 400, "validation_failed")
    check_problem(await service.post("/confirm-email", {"token": token, "x": 1}), 400, "validation_failed")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer a.b.c", "Basic eA==", "Bearer " + "x" * 5000])
async def test_a_request_without_a_good_access_token_is_401(service: Service, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (("GET", "/me"), ("PATCH", "/me"), ("POST", "/logout"), ("POST", "/logout/all")):
        answer = await service.client.request(method, f"/api/v1{path}", headers=headers)
        check_problem(answer, 401, "access_token_invalid")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_unknown_paths_and_methods_are_problems_too(service: Service) -> None:
    check_problem(await service.client.get("/nothing"), 404, "not_found")
    check_problem(await service.client.get("/api/v1/nothing"), 404, "not_found")
    check_problem(await service.client.get("/api/v1/registrations/x"), 404, "registration_not_found")
    answer = await service.client.get("/api/v1/register")
    check_problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "OPTIONS, POST"
    for method in ("DELETE", "PUT", "PATCH", "TRACE", "PROPFIND", "INVENTED"):
        answer = await service.client.request(method, "/api/v1/login")
        check_problem(answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == "OPTIONS, POST"
    check_problem(await service.client.get("/%ff"), 404, "not_found")
    # What a proxy in front could read as another path is not looked up at all.
    for path in ("/%00", "/api/v1/registrations/%2e%2e", "/static/..%2f..%2fapp.py", "/static/%00"):
        check_problem(await service.client.get(path), 400, "bad_request")


async def close_code(url: str, *messages: str | bytes) -> int:
    """Send messages on a websocket and return the code that it is closed with."""
    async with open_socket(url) as socket:
        with trio.fail_after(20), pytest.raises(ConnectionClosed) as closed:
            for message in messages:
                await socket.send_message(message)
            while True:
                await socket.get_message()
    assert closed.value.reason is not None
    return int(closed.value.reason.code)


@pytest.mark.parametrize(
    "message",
    ["", "x", "[]", "null", '{"handle": 1}', '{"handle": ""}', '{"handle": "' + "A" * 43 + '"}', "[" * 8000,
     b"\x00\x01", b'{"handle": "x"}'],
)  # fmt: skip
async def test_a_websocket_without_a_good_handle_is_closed_with_4401(
    service: Service, message: str | bytes
) -> None:
    url = (
        service.url.replace("http", "ws") + "/api/v1/registrations/00000000-0000-4000-8000-000000000000/live"
    )
    assert await close_code(url, message) == 4401


async def test_a_websocket_that_says_nothing_is_closed_after_five_seconds(service: Service) -> None:
    url = (
        service.url.replace("http", "ws") + "/api/v1/registrations/00000000-0000-4000-8000-000000000000/live"
    )
    assert await close_code(url) == 4401


async def test_a_websocket_message_of_65_kib_is_closed_with_1009(service: Service) -> None:
    url = (
        service.url.replace("http", "ws") + "/api/v1/registrations/00000000-0000-4000-8000-000000000000/live"
    )
    assert await close_code(url, "x" * 65 * 1024) == 1009


async def test_a_page_of_another_site_cannot_open_a_websocket(service: Service) -> None:
    path = "/api/v1/registrations/00000000-0000-4000-8000-000000000000/live"
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    for origin in ("https://evil.example", "null", service.settings.public_url + ".evil.example"):
        answer = await service.client.get(path, headers=upgrade | {"Origin": origin})
        check_problem(answer, 403, "origin_not_allowed")
    own = [(b"Origin", service.settings.public_url.encode())]
    async with open_socket(service.url.replace("http", "ws") + path, extra_headers=own):
        pass


async def test_a_field_that_a_call_does_not_know_is_refused_except_by_register(service: Service) -> None:
    described = (await service.client.get("/openapi.json")).json()["paths"]
    tried = 0
    for path, methods in described.items():
        call = methods.get("post")
        if call is None or "requestBody" not in call or call["security"]:
            continue
        answer = await service.client.post(path, json={"surprise": 1})
        body = check_problem(answer, 400, "validation_failed")
        assert isinstance(body["errors"], list)
        found = {error["pointer"]: error["code"] for error in body["errors"]}
        assert found.get("/surprise") == (None if path.endswith("/register") else "unknown_field"), path
        tried += 1
    assert tried > 8
