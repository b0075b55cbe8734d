"""The API's description as generators of clients read it: types, tags, who needs a token, bodies of errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from regsvc.accounts.service_tokens.service_token import SCOPES
from tests.services import Service

Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture
async def document(shared_service: Service) -> dict[str, Any]:
    found: dict[str, Any] = (await shared_service.client.get("/openapi.json")).json()
    return found


SCHEMES = ("access_token", "service_token")


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


async def test_every_call_has_a_tag_and_says_whether_it_needs_a_token(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for path, method, operation in operations(document):
        assert len(operation["tags"]) == 1, (path, method)
        assert operation["tags"][0] in tags
        assert {name for each in operation["security"] for name in each} <= set(SCHEMES), (path, method)
        for each in operation["security"]:
            assert set(each.get("service_token", [])) <= set(SCOPES), (path, method)
        if operation["tags"] == ["admin"]:
            assert operation["security"], (path, method)
    assert document["paths"]["/api/v1/register"]["post"]["security"] == []


async def test_the_filters_of_lists_are_typed_by_what_reads_them(document: dict[str, Any]) -> None:
    def schemas(path: str) -> dict[str, dict[str, Any]]:
        return {it["name"]: it["schema"] for it in document["paths"][path]["get"]["parameters"]}

    users, audit = schemas("/api/v1/admin/users"), schemas("/api/v1/admin/audit")
    assert set(users["role"]["enum"]) == {"user", "admin"}
    assert users["limit"]["type"] == "integer"
    assert users["limit"]["minimum"] == 1
    assert users["limit"]["maximum"] >= users["limit"]["default"]
    assert users["cursor"] == {"type": "string"}
    assert audit["since"]["format"] == "date-time"
    assert audit["actor_id"]["format"] == "uuid"
    for path in ("/api/v1/admin/mails", "/api/v1/admin/registrations"):
        assert schemas(path)["state"]["enum"]
        assert schemas(path)["address"]["format"] == "idn-email"


async def test_an_errors_body_is_the_problem_by_reference(document: dict[str, Any]) -> None:
    assert "allOf" not in str(document)
    for path, method, operation in operations(document):
        for status, reply in operation["responses"].items():
            if status[0] in "45" and "content" in reply and "application/problem+json" in reply["content"]:
                schema = reply["content"]["application/problem+json"]["schema"]
                assert schema["$ref"] == "#/components/schemas/Problem", (path, method, status)
