"""Service tokens: each opens the calls of its scopes and no other, and is refused at once when it is revoked."""

from __future__ import annotations

import re
from datetime import timedelta
from uuid import UUID

import pytest

from regsvc.accounts.audit.record import By
from regsvc.accounts.service_tokens.service_token import (
    SCOPES,
    Scope,
    create_token,
    list_tokens,
    revoke_token,
)
from regsvc.postgres.pool import Pool
from tests.http.administrators import ADMIN, log_in_admin
from tests.services import Service

BY = By("operator")
MISSING = "0b6d1c1e-5a53-4f0c-8a51-3f1f9a1f0000"
CALLS: list[tuple[str, str, Scope]] = [
    ("GET", "/users", "users:read"),
    ("GET", "/admin/users", "users:read"),
    ("GET", f"/admin/users/{MISSING}", "users:read"),
    ("GET", f"/admin/users/{MISSING}/sessions", "users:read"),
    ("POST", f"/admin/users/{MISSING}/disable", "users:write"),
    ("POST", f"/admin/users/{MISSING}/enable", "users:write"),
    ("POST", f"/admin/users/{MISSING}/end-sessions", "users:write"),
    ("DELETE", f"/admin/users/{MISSING}", "users:write"),
    ("GET", "/admin/registrations", "registrations:read"),
    ("GET", f"/admin/registrations/{MISSING}", "registrations:read"),
    ("POST", f"/admin/registrations/{MISSING}/confirm", "registrations:write"),
    ("GET", "/admin/mails", "mails:read"),
    ("GET", f"/admin/mails/{MISSING}", "mails:read"),
    ("POST", "/admin/mails/replay-dead", "mails:write"),
    ("POST", f"/admin/mails/{MISSING}/replay", "mails:write"),
    ("POST", f"/admin/mails/{MISSING}/cancel", "mails:write"),
    ("GET", "/admin/audit", "audit:read"),
    ("GET", "/admin/supervisor", "supervisor:read"),
    ("POST", "/admin/supervisor/none/restart", "supervisor:write"),
    ("GET", "/admin/suppressions", "suppressions:read"),
    ("DELETE", f"/admin/suppressions/{MISSING}", "suppressions:write"),
]
NEVER = [
    ("GET", "/admin/keys"),
    ("POST", "/admin/keys/rotate"),
]
OWN = [("GET", "/me"), ("PATCH", "/me"), ("GET", "/sessions"), ("POST", "/logout")]


async def mint(pool: Pool, *scopes: Scope, life: timedelta | None = None) -> tuple[UUID, dict[str, str]]:
    async with pool.transaction() as conn:
        created, text = await create_token(conn, "billing", scopes, life, BY)
    return created.id, {"Authorization": f"Bearer {text}"}


@pytest.mark.parametrize(("method", "path", "scope"), CALLS, ids=[f"{m} {p[:30]}" for m, p, _ in CALLS])
async def test_a_call_is_open_to_its_scope_alone(
    service: Service, pool: Pool, method: str, path: str, scope: Scope
) -> None:
    _, right = await mint(pool, scope)
    _, others = await mint(pool, *(each for each in SCOPES if each != scope))
    opened = await service.client.request(method, f"/api/v1{path}", headers=right)
    refused = await service.client.request(method, f"/api/v1{path}", headers=others)
    assert opened.status_code in {200, 404}, opened.text
    assert (refused.status_code, refused.json()["code"]) == (403, "insufficient_scope")
    assert refused.headers["WWW-Authenticate"] == f'Bearer error="insufficient_scope", scope="{scope}"'


async def test_the_description_names_the_calls_of_each_scope_and_none_of_tokens_roles_or_keys(
    service: Service,
) -> None:
    """A new call with a scope is in the table above, or a test of its own subject holds it."""
    described = (await service.client.get("/openapi.json")).json()["paths"]
    found = {
        (method.upper(), path.removeprefix("/api/v1"), scope)
        for path, methods in described.items()
        for method, call in methods.items()
        for scheme in call.get("security", [])
        for scopes in scheme.values()
        for scope in scopes
    }
    forbidden = re.compile(r"token|role|admin/keys|webhook|/me\b|session")
    opened = {path for _, path, scope in found if scope != "tokens:introspect"}
    assert {path for path in opened if forbidden.search(path)} <= {
        "/admin/users/{user_id}/sessions",
        "/admin/users/{user_id}/end-sessions",
    }
    assert {scope for _, _, scope in found} <= set(SCOPES)
    listed = {(method, re.sub(r"/none(?=/)|/[0-9a-f-]{36}", "/*", path)) for method, path, _ in CALLS}
    elsewhere = {"invitations:read", "invitations:write", "tokens:introspect"}
    missing = {
        (method, scope, path)
        for method, path, scope in found
        if scope not in elsewhere and (method, re.sub(r"\{[^}]+\}", "*", path)) not in listed
    }
    assert sorted(missing) == []


async def test_no_scope_opens_keys_or_what_belongs_to_a_user(service: Service, pool: Pool) -> None:
    _, everything = await mint(pool, *SCOPES)
    for method, path in NEVER:
        answer = await service.client.request(method, f"/api/v1{path}", headers=everything)
        assert answer.status_code in {401, 403}, path
    for method, path in OWN:
        answer = await service.client.request(method, f"/api/v1{path}", headers=everything, json={})
        assert answer.status_code == 401, path


async def test_what_a_service_does_is_in_the_audit_log_with_its_id(service: Service, pool: Pool) -> None:
    await service.confirm()
    token, header = await mint(pool, "users:read", "users:write")
    listed = await service.client.get("/api/v1/users", headers=header)
    (ann,) = (user["id"] for user in listed.json()["users"])
    done = await service.client.post(f"/api/v1/admin/users/{ann}/disable", headers=header)
    assert done.json()["state"] == "disabled"
    admin = await log_in_admin(service, pool)
    audit = await service.client.get("/api/v1/admin/audit?actor=service_token", headers=admin)
    (event,) = audit.json()["events"]
    assert (event["event"], event["actor_id"], event["user"]) == ("user_disabled", str(token), ann)


async def test_a_token_ends_when_it_is_revoked_or_its_time_is_over(service: Service, pool: Pool) -> None:
    token, header = await mint(pool, "users:read")
    _, brief = await mint(pool, "users:read", life=timedelta(hours=1))
    for each in (header, brief):
        assert (await service.client.get("/api/v1/users", headers=each)).status_code == 200
    async with pool.transaction() as conn:
        await revoke_token(conn, token, BY)
        await conn.execute("UPDATE service_tokens SET expires_at = now() WHERE expires_at IS NOT NULL")
    for each in (header, brief):
        answer = await service.client.get("/api/v1/users", headers=each)
        assert (answer.status_code, answer.json()["code"]) == (401, "access_token_invalid")


async def test_an_invented_token_is_refused_and_a_used_one_noted(service: Service, pool: Pool) -> None:
    await mint(pool, "users:read")
    _, used = await mint(pool, "users:read")
    text = used["Authorization"].encode()
    for each in (b"Bearer rgs_", b"Bearer rgs_" + b"A" * 43, text + b"A", text[:-1], b"Bearer rgs_\xff"):
        answer = await service.client.get("/api/v1/users", headers=[(b"Authorization", each)])
        assert answer.status_code == 401
    await service.client.get("/api/v1/users", headers=used)
    async with pool.connection() as conn:
        assert sorted(each.last_used_at is not None for each in await list_tokens(conn)) == [False, True]


async def test_the_text_of_a_token_is_not_stored(pool: Pool) -> None:
    _, header = await mint(pool, "users:read")
    async with pool.connection() as conn:
        rows = await (await conn.execute("SELECT service_tokens::text FROM service_tokens")).fetchall()
        audit = await (await conn.execute("SELECT audit_events::text FROM audit_events")).fetchall()
    text = header["Authorization"].removeprefix("Bearer ")
    assert text.startswith("rgs_")
    assert text not in repr(rows) + repr(audit)


async def test_an_administrator_needs_no_scope(service: Service, pool: Pool) -> None:
    admin = await log_in_admin(service, pool)
    assert (await service.client.get("/api/v1/users", headers=admin)).json()["users"][0]["email"] == ADMIN
