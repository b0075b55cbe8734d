"""Registrations as administrators see them."""

from __future__ import annotations

from uuid import uuid4

from regsvc.postgres.pool import Pool
from tests.http.administrators import ADMIN, get, log_in_admin
from tests.services import Service

REGISTRATIONS = "/admin/registrations"


async def test_registrations_are_found_by_state_and_address_and_shown(service: Service, pool: Pool) -> None:
    admin = await log_in_admin(service, pool)
    signed_up = await service.sign_up()
    await service.wait_mail()
    (shown,) = (await get(service, admin, REGISTRATIONS, address="ANN@example.com"))["registrations"]
    assert (shown["address"], shown["name"], shown["client"]) == (
        "ann@example.com",
        "Ann",
        "a Python program",
    )
    assert signed_up.headers["Location"].endswith(shown["id"])
    assert (await get(service, admin, f"{REGISTRATIONS}/{shown['id']}"))["id"] == shown["id"]
    (mine,) = (await get(service, admin, REGISTRATIONS, state="confirmed"))["registrations"]
    assert mine["address"] == ADMIN
    first = await get(service, admin, REGISTRATIONS, limit="1")
    second = await get(service, admin, REGISTRATIONS, limit="1", cursor=first["next_cursor"])
    ids = [page["registrations"][0]["id"] for page in (first, second)]
    assert (ids, second["next_cursor"]) == ([shown["id"], mine["id"]], None)


async def test_a_registration_is_confirmed_by_hand_and_logs_in_with_its_own_password(
    service: Service, pool: Pool
) -> None:
    admin = await log_in_admin(service, pool)
    signed_up = await service.sign_up(password="the first one")
    second = await service.sign_up(password="the second one")

    async def confirm(known: str) -> tuple[int, str]:
        answer = await service.client.post(f"/api/v1{REGISTRATIONS}/{known}/confirm", headers=admin)
        return answer.status_code, answer.json().get("code") or answer.json()["email"]

    known = signed_up.headers["Location"].rpartition("/")[2]
    assert await confirm(known) == (200, "ann@example.com")
    await service.log_in(password="the first one")
    assert await confirm(known) == (409, "registration_over")
    assert await confirm(second.headers["Location"].rpartition("/")[2]) == (409, "address_taken")
    for nothing in (str(uuid4()), "x"):
        assert await confirm(nothing) == (404, "registration_not_found")
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT actor, details->>'registration' FROM audit_events WHERE event = 'account_created' ORDER BY id"
        )
        assert [row[0] for row in await cursor.fetchall()] == ["anonymous", "admin"]


async def test_only_administrators_come_in(service: Service, pool: Pool) -> None:
    await service.confirm()
    user = await service.log_in()
    one = f"/api/v1{REGISTRATIONS}/{uuid4()}"
    for headers, status in ((user, 403), ({}, 401)):
        for method, path in (("GET", f"/api/v1{REGISTRATIONS}"), ("GET", one), ("POST", f"{one}/confirm")):
            assert (await service.client.request(method, path, headers=headers)).status_code == status


async def test_a_filter_that_makes_no_sense_is_refused(service: Service, pool: Pool) -> None:
    admin = await log_in_admin(service, pool)
    for query in ("state=lost", "address=ann", "cursor=x", "limit=201", "name=Ann"):
        answer = await service.client.get(f"/api/v1{REGISTRATIONS}?{query}", headers=admin)
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")
