"""Text is only text: what means something to SQL, a template, a shell, a page or a mail header means nothing here.

Driven by the service's own description, so that a new call is tried as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx

from regsvc.postgres.connection import Connection
from tests.http.test_openapi import Checker, execute
from tests.services import PASSWORD, Service, read_all_mails

PAYLOADS = (
    "' OR '1'='1' --",
    "'; DROP TABLE users; DELETE FROM registrations; --",
    "$$ || (SELECT password_hash FROM users LIMIT 1) || $$",
    "\\' UNION SELECT 1 \" %(email)s %s %n {0.__class__} ",
    "{{ 7 * 191919191 }} ${7*191919191} #{7*191919191} <%= 7*191919191 %> {% include 'x' %}",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "../../../../etc/passwd; $(id) `id` | id",
    "ann\r\nBcc: eve@evil.example\r\n\r\nhello",
    "=?utf-8?q?=0d=0aBcc:eve=40evil.example?=",
    "ann\u2028Bcc: eve@evil.example\u2029\u0085",
    "\u0000\ud800\u202e\ufeff",
)
PRODUCT = "1343434337"  # 7 * 191919191: some template took the text for its own
ENDING = "/logout"  # which would end the session that makes all calls


def bodies(
    document: dict[str, Any], operation: dict[str, Any], good: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    """Yield bodies of a call, each good but for one text."""
    if "requestBody" not in operation:
        return
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = document["components"]["schemas"][reference.rpartition("/")[2]]
    needed = {*schema.get("required", ()), *good} & schema["properties"].keys()
    sample = {name: good.get(name, "A" * 64) for name in needed}
    for name in schema["properties"]:
        for payload in PAYLOADS:
            yield sample | {name: payload}


def header_value(payload: str) -> bytes:
    """Return what of a payload may stand in a header at all."""
    kept = "".join(char for char in payload if char.isprintable())
    return kept.encode("utf-8", "replace").strip()


async def test_no_text_in_any_field_is_more_than_text(service: Service) -> None:
    document = (await service.client.get("/openapi.json")).json()
    good = {"email": "ann@example.com", "name": "Ann", "locale": "en", "current_password": PASSWORD}
    good |= {"password": PASSWORD, "new_password": PASSWORD}
    await service.confirm("ann@example.com")
    await execute(service, "UPDATE users SET role = 'admin'")
    bearer = await service.log_in("ann@example.com")
    checker = Checker(document)
    answers: list[httpx.Response] = []
    for path, methods in document["paths"].items():
        if ENDING in path:
            continue
        for method, operation in methods.items():
            url = path.replace("{", "").replace("}", "")
            for body in bodies(document, operation, good):
                content = json.dumps(body).encode()
                headers = bearer | {"Content-Type": "application/json"}
                answer = await service.client.request(method, url, content=content, headers=headers)
                await checker.check(answer)
                answers.append(answer)
            for parameter in operation.get("parameters", ()):
                answers += [
                    await send(service, method, path, parameter=parameter, payload=payload, bearer=bearer)
                    for payload in PAYLOADS
                ]
    assert len(answers) > 500
    assert all(answer.status_code < 500 for answer in answers)
    assert not any(PRODUCT in answer.text for answer in answers)
    await check_what_is_stored(service)
    check_what_was_mailed(service)


async def send(
    service: Service,
    method: str,
    path: str,
    *,
    parameter: dict[str, Any],
    payload: str,
    bearer: Mapping[str, str],
) -> httpx.Response:
    """Make a call with a payload in one of its parameters."""
    name, url = parameter["name"], path
    headers: dict[str, str | bytes] = dict(bearer)
    params = {}
    match parameter["in"]:
        case "path":
            url = path.replace("{" + name + "}", quote(payload.encode("utf-8", "replace"), safe=""))
        case "query":
            params[name] = payload.encode("utf-8", "replace").decode()
        case _:
            headers[name] = header_value(payload)
    url = url.replace("{", "").replace("}", "")
    raw = [
        (key.encode(), value.encode() if isinstance(value, str) else value) for key, value in headers.items()
    ]
    return await service.client.request(method, url, params=params or None, headers=raw, json={})


async def check_what_is_stored(service: Service) -> None:
    """Whatever was taken as a name is kept as it came."""
    async with await Connection.connect(service.settings.database_url.get_secret_value()) as conn:
        names = {row[0] for row in await (await conn.execute("SELECT name FROM registrations")).fetchall()}
    assert names - {"Ann"}
    assert names <= {*PAYLOADS, *(payload.strip() for payload in PAYLOADS), "Ann"}


def check_what_was_mailed(service: Service) -> None:
    """Every mail is to one of our own, and has each header once."""
    mails = read_all_mails(service.mailbox)
    assert len(mails) > 1
    for mail in mails:
        names = [name.lower() for name in mail.message.keys()]  # noqa: SIM118 - a message may have a key twice
        assert len(names) == len(set(names))
        assert not {"bcc", "cc", "reply-to"} & set(names)
        assert mail.message["To"].endswith("@example.com")
        whole = mail.message.as_string()
        assert "evil" not in whole
        assert PRODUCT not in mail.text


async def test_a_name_of_any_meaning_is_shown_as_it_is(shared_service: Service) -> None:
    for payload in PAYLOADS[:6]:
        address = f"{uuid4()}@example.com"
        body = {"email": address, "password": PASSWORD, "name": payload}
        assert (await shared_service.post("/register", body)).status_code == 201
        mail = await shared_service.wait_mail(address)
        await shared_service.post("/confirm-email", {"token": mail.token})
        profile = await shared_service.client.get("/api/v1/me", headers=await shared_service.log_in(address))
        assert profile.json()["name"] == payload.strip()
