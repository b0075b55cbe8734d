"""The children of a process, and starting one of them again."""

from __future__ import annotations

import os
from typing import Any

import trio

from regsvc.postgres.pool import Pool
from tests.http.administrators import get, log_in_admin
from tests.services import Service

SUPERVISOR = "/admin/supervisor"


async def read_children(service: Service, admin: dict[str, str]) -> dict[str, dict[str, Any]]:
    return {child["name"]: child for child in (await get(service, admin, SUPERVISOR))["children"]}


async def wait_restarted(service: Service, admin: dict[str, str], name: str) -> dict[str, dict[str, Any]]:
    """Wait until a child has begun another life, and return how all of them do."""
    with trio.fail_after(20):
        while True:
            children = await read_children(service, admin)
            if children[name]["restarts"] and children[name]["state"] == "running":
                return children
            await trio.sleep(0.02)


async def test_a_child_is_started_again_and_its_siblings_go_on(service: Service, pool: Pool) -> None:
    admin = await log_in_admin(service, pool)
    shown = await get(service, admin, SUPERVISOR)
    assert (shown["role"], shown["pid"], shown["stopping"]) == ("all", os.getpid(), False)
    before = await read_children(service, admin)
    assert {child["state"] for child in before.values()} == {"running"}
    answer = await service.client.post(f"/api/v1{SUPERVISOR}/janitor/restart", headers=admin)
    assert (answer.status_code, answer.json()) == (202, {"message": "child restarted"})
    after = await wait_restarted(service, admin, "janitor")
    assert {name: child["restarts"] for name, child in after.items()} == dict.fromkeys(before, 0) | {
        "janitor": 1
    }
    assert {child["failures"] for child in after.values()} == {0}
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT actor, details->>'child' FROM audit_events WHERE event = 'child_restarted'"
        )
        assert await cursor.fetchall() == [("admin", "janitor")]


async def test_what_answers_and_what_is_not_there_is_not_restarted(service: Service, pool: Pool) -> None:
    admin = await log_in_admin(service, pool)
    for child, expected in (("http", (409, "child_serving")), ("nobody", (404, "child_not_found"))):
        answer = await service.client.post(f"/api/v1{SUPERVISOR}/{child}/restart", headers=admin)
        assert (answer.status_code, answer.json()["code"]) == expected


async def test_only_administrators_come_in(service: Service) -> None:
    await service.confirm()
    user = await service.log_in()
    for headers, status in ((user, 403), ({}, 401)):
        for method, path in (("GET", SUPERVISOR), ("POST", f"{SUPERVISOR}/janitor/restart")):
            answer = await service.client.request(method, f"/api/v1{path}", headers=headers)
            assert answer.status_code == status
