"""The audit log as administrators see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from regsvc.postgres.pool import Pool
from tests.http.administrators import ADMIN, get, log_in_admin
from tests.services import Service

AUDIT = "/admin/audit"


async def test_events_are_found_by_what_happened_to_whom_by_whom_and_when(
    service: Service, pool: Pool
) -> None:
    admin = await log_in_admin(service, pool)
    await service.confirm()
    failed = await service.post("/login", {"email": "ann@example.com", "password": "wrong password"})
    (ann, me) = [
        (await get(service, admin, "/users", search=address))["users"][0]["id"]
        for address in ("ann@example.com", ADMIN)
    ]
    await service.client.post(f"/api/v1/admin/users/{ann}/disable", headers=admin)

    async def find(**filters: str) -> list[str]:
        return [event["event"] for event in (await get(service, admin, AUDIT, **filters))["events"]]

    everything = ["user_disabled", "login_failed", "account_created", "logged_in", "account_created"]
    assert await find() == everything
    assert await find(user=ann) == ["user_disabled", "login_failed", "account_created"]
    assert await find(actor="admin") == await find(actor_id=me, event="user_disabled") == ["user_disabled"]
    assert await find(event="logged_in", user=me) == ["logged_in"]
    assert await find(request_id=failed.headers["X-Request-Id"]) == ["login_failed"]
    now = datetime.now(UTC)
    assert await find(since=(now - timedelta(hours=1)).isoformat()) == everything
    assert await find(until=(now - timedelta(hours=1)).isoformat()) == []
    (disabled, *_) = (await get(service, admin, AUDIT))["events"]
    assert (disabled["actor"], disabled["actor_id"], disabled["user"]) == ("admin", me, ann)
    assert (disabled["origin"], disabled["client"], disabled["details"]) == (
        "127.0.0.0/24",
        "a Python program",
        {"sessions": 0},
    )


async def test_pages_of_events_follow_each_other(service: Service, pool: Pool) -> None:
    admin = await log_in_admin(service, pool)
    for _ in range(3):
        await service.log_in(ADMIN)
    found: list[int] = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = await get(service, admin, AUDIT, limit="2", **cursor)
        found += [event["id"] for event in page["events"]]
        cursor = {"cursor": page["next_cursor"]}
    assert page["next_cursor"] is None
    assert found == sorted(found, reverse=True)
    assert len(found) == 5


@pytest.mark.parametrize(
    "query",
    [
        "event=%00",
        "event=Login",
        "user=x",
        "actor=root",
        "since=yesterday",
        "since=2026-01-01T00:00:00",
        "until=99999999999999999999",
        "cursor=x",
        "cursor=9223372036854775808",
        "cursor=0",
        "limit=201",
        "request_id=a%20b",
        "who=me",
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(service: Service, pool: Pool, query: str) -> None:
    admin = await log_in_admin(service, pool)
    answer = await service.client.get(f"/api/v1{AUDIT}?{query}", headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")


async def test_only_administrators_read_it(service: Service) -> None:
    await service.confirm()
    assert (await service.client.get(f"/api/v1{AUDIT}")).status_code == 401
    assert (await service.client.get(f"/api/v1{AUDIT}", headers=await service.log_in())).status_code == 403
