"""What happened to one's own account, by the API and on the account page; and what a browser forgets at log-out."""

from __future__ import annotations

from pathlib import Path

import pytest

from regsvc.postgres.pool import Pool
from tests.http.test_email_change import execute
from tests.services import PASSWORD, Service, run_test_service

ANN = "ann@example.com"
OWN = {"Sec-Fetch-Site": "same-origin"}
CLEARED = '"cache", "storage"'


async def test_ones_events_are_listed_newest_first_in_pages_and_nobody_elses(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    await service.confirm("bob@example.com")
    await service.log_in("bob@example.com")
    await service.post("/login", {"email": ANN, "password": "another password"})
    bearer = await service.log_in()
    await execute(
        pool,
        """
        INSERT INTO audit_events (event, actor, actor_id, user_id, origin)
        SELECT 'sessions_ended', 'admin', gen_random_uuid(), id, '192.0.2.0/24'
          FROM users WHERE email_key = 'ann@example.com'
        """,
    )
    answer = await service.client.get("/api/v1/me/activity", headers=bearer)
    events = answer.json()["events"]
    assert [event["event"] for event in events] == [
        "sessions_ended",
        "logged_in",
        "login_failed",
        "account_created",
    ]
    assert [event["origin"] for event in events] == [None, *["127.0.0.0/24"] * 3]
    found, cursor = [], ""
    while True:
        page = (await service.client.get(f"/api/v1/me/activity?limit=3{cursor}", headers=bearer)).json()
        found += page["events"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == events
    assert (await service.client.get("/api/v1/me/activity")).status_code == 401
    assert (await service.client.get("/api/v1/me/activity?limit=0", headers=bearer)).status_code == 400


async def test_the_account_page_sums_up_what_happened(service: Service) -> None:
    await service.confirm()
    for _ in range(3):
        await service.post("/login", {"email": ANN, "password": "another password"})
    form = {"email": ANN, "password": PASSWORD}
    await service.client.post("/login", data=form, headers=OWN)
    page = (await service.client.get("/account")).text
    part = page[page.index('id="activity"') :]
    assert (
        part.index("Logged in") < part.index("Failed login attempt") < part.index("\N{MULTIPLICATION SIGN} 3")
    )
    assert "Account created" in part


async def test_a_browser_forgets_what_it_stored_at_every_log_out(service: Service) -> None:
    await service.confirm()
    for path in ("/api/v1/logout", "/api/v1/logout/all"):
        answer = await service.client.post(path, headers=await service.log_in())
        assert (answer.status_code, answer.headers["Clear-Site-Data"]) == (204, CLEARED)
    form = {"email": ANN, "password": PASSWORD}
    for path in ("/logout", "/account/sessions/end-all", "/account/delete"):
        await service.client.post("/login", data=form, headers=OWN)
        answer = await service.client.post(path, data={"password": PASSWORD}, headers=OWN)
        assert (answer.status_code, answer.headers["Clear-Site-Data"]) == (303, CLEARED), path
    answer = await service.client.get("/login")
    assert "Clear-Site-Data" not in answer.headers


@pytest.mark.parametrize(("url", "heeded"), [("https://a.example.com", True), ("http://lan.example", False)])
async def test_browsers_heed_it_where_they_trust_the_origin(
    database: str, tmp_path: Path, url: str, *, heeded: bool
) -> None:
    async with run_test_service(database, tmp_path, {"REGSVC_PUBLIC_URL": url}) as service:
        answer = await service.client.post("/logout", data={"": ""}, headers=OWN)
        assert ("Clear-Site-Data" in answer.headers) == heeded
