"""Users as administrators see them over HTTP."""

from __future__ import annotations

from uuid import uuid4

import pytest

from regsvc.postgres.pool import Pool
from tests.http.administrators import ADMIN, get, log_in_admin
from tests.services import PASSWORD, Service


async def test_a_user_is_found_disabled_enabled_logged_out_and_deleted(service: Service, pool: Pool) -> None:
    admin = await log_in_admin(service, pool)
    await service.confirm()
    ann = await service.log_in()
    for path in ("/users", "/admin/users"):
        (shown,) = (await get(service, admin, path, search="ANN@"))["users"]
    assert (shown["email"], shown["name"], shown["role"], shown["state"]) == (
        "ann@example.com",
        "Ann",
        "user",
        "active",
    )
    assert (shown["sessions"], shown["disabled_at"]) == (1, None)
    one = f"/admin/users/{shown['id']}"
    assert await get(service, admin, one) == shown
    (session,) = (await get(service, admin, f"{one}/sessions"))["sessions"]
    assert (session["client"], session["current"]) == ("a Python program", False)

    async def post(act: str) -> dict[str, object]:
        answer = await service.client.post(f"/api/v1{one}/{act}", headers=admin)
        assert answer.status_code == 200, answer.text
        changed: dict[str, object] = answer.json()
        return changed

    async def try_password() -> int:
        answer = await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})
        return answer.status_code

    assert (await post("disable"))["state"] == "disabled"
    assert (await service.client.get("/api/v1/me", headers=ann)).status_code == 401
    assert await try_password() == 401
    assert (await get(service, admin, "/users", state="disabled"))["users"][0]["id"] == shown["id"]
    assert (await post("enable"))["state"] == "active"
    assert (await service.client.get("/api/v1/me", headers=ann)).status_code == 401
    assert await try_password() == 200
    assert (await post("end-sessions"))["sessions"] == 0
    answer = await service.client.delete(f"/api/v1{one}", headers=admin)
    assert (answer.status_code, answer.content) == (204, b"")
    assert [user["email"] for user in (await get(service, admin, "/users"))["users"]] == [ADMIN]
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT event FROM audit_events WHERE actor = 'admin' AND user_id = %s ORDER BY id", [shown["id"]]
        )
        acts = [row[0] for row in await cursor.fetchall()]
    assert acts == ["user_disabled", "user_enabled", "sessions_ended", "account_deleted"]


async def test_administrators_keep_their_hands_off_themselves(service: Service, pool: Pool) -> None:
    admin = await log_in_admin(service, pool)
    (me,) = (await get(service, admin, "/users"))["users"]
    one = f"/api/v1/admin/users/{me['id']}"
    for method, path in (("POST", f"{one}/disable"), ("DELETE", one)):
        answer = await service.client.request(method, path, headers=admin)
        assert (answer.status_code, answer.json()["code"]) == (409, "own_account")
    assert await get(service, admin, f"/admin/users/{me['id']}") == me


@pytest.mark.parametrize(
    "query", ["search=", "search=%00", "search=a%0Ab", "role=root", "state=x", "limit=0", "cursor=x"]
)
async def test_a_filter_that_makes_no_sense_is_refused(service: Service, pool: Pool, query: str) -> None:
    admin = await log_in_admin(service, pool)
    answer = await service.client.get(f"/api/v1/users?{query}", headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")


async def test_only_administrators_come_in_and_nobody_is_found_who_is_not_there(
    service: Service, pool: Pool
) -> None:
    admin = await log_in_admin(service, pool)
    await service.confirm()
    user = await service.log_in()
    for known in (uuid4(), "x"):
        one = f"/api/v1/admin/users/{known}"
        calls = [
            ("GET", one),
            ("GET", f"{one}/sessions"),
            *(("POST", f"{one}/{act}") for act in ("disable", "enable", "end-sessions")),
            ("DELETE", one),
        ]
        for headers, expected in (
            (admin, (404, "user_not_found")),
            (user, (403, "forbidden")),
            ({}, (401, "access_token_invalid")),
        ):
            for method, path in calls:
                answer = await service.client.request(method, path, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == expected
    for headers, status in ((user, 403), ({}, 401)):
        for path in ("/api/v1/users", "/api/v1/admin/users"):
            assert (await service.client.get(path, headers=headers)).status_code == status
