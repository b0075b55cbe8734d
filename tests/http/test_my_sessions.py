"""Where one is logged in."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import bcrypt
import httpx
import trio

from regsvc.postgres.pool import Pool
from tests.services import PASSWORD, Service

SESSIONS = "/api/v1/sessions"
FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}


async def list_sessions(service: Service, headers: dict[str, str]) -> list[dict[str, Any]]:
    answer = await service.client.get(SESSIONS, headers=headers)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["sessions"]
    return found


async def log_in(service: Service, headers: dict[str, str] | None = None) -> dict[str, str]:
    body = {"email": "ann@example.com", "password": PASSWORD}
    found: dict[str, str] = (await service.post("/login", body, headers)).json()
    return found


def bearer(tokens: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def events(pool: Pool) -> list[tuple[str, str]]:
    """Return the audit events so far, with who did them."""
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT event, actor FROM audit_events ORDER BY id")
        return [(event, actor) for event, actor in await cursor.fetchall()]


async def is_refused(service: Service, tokens: dict[str, str]) -> bool:
    """Say whether a session is over, for both of its tokens."""
    answers: list[httpx.Response] = [
        await service.client.get("/api/v1/me", headers=bearer(tokens)),
        await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]}),
    ]
    assert {answer.status_code for answer in answers} in ({401}, {200})
    return answers[0].status_code == 401


async def test_one_sees_where_one_is_logged_in_and_with_what(service: Service) -> None:
    await service.confirm()
    old, new = await log_in(service, FIREFOX), await log_in(service)
    here, there = await list_sessions(service, bearer(new))
    assert (here["client"], here["current"]) == ("a Python program", True)
    assert (there["client"], there["current"]) == ("Firefox on Linux", False)
    assert here["origin"] == there["origin"] == "127.0.0.0/24"
    assert here["created_at"] == here["last_used_at"] < here["expires_at"]
    await service.post("/token/refresh", {"refresh_token": old["refresh_token"]})
    (first, _) = await list_sessions(service, bearer(new))
    assert first["id"] == there["id"]
    assert first["last_used_at"] > there["last_used_at"]


async def test_one_session_is_ended_and_the_others_go_on(service: Service, pool: Pool) -> None:
    await service.confirm()
    lost, kept = await log_in(service, FIREFOX), await log_in(service)
    (wanted,) = [each["id"] for each in await list_sessions(service, bearer(kept)) if not each["current"]]
    answer = await service.client.delete(f"{SESSIONS}/{wanted}", headers=bearer(kept))
    assert (answer.status_code, answer.content) == (204, b"")
    assert await is_refused(service, lost)
    assert not await is_refused(service, kept)
    again = await service.client.delete(f"{SESSIONS}/{wanted}", headers=bearer(kept))
    assert (again.status_code, again.json()["code"]) == (404, "session_not_found")
    assert ("session_ended", "user") in await events(pool)


async def test_nobody_ends_or_sees_the_sessions_of_others(service: Service) -> None:
    await service.confirm()
    await service.confirm("bob@example.com")
    ann, bob = await log_in(service), await service.log_in("bob@example.com")
    ((anns,), (bobs,)) = await list_sessions(service, bearer(ann)), await list_sessions(service, bob)
    assert anns["id"] != bobs["id"]
    for session_id in (anns["id"], uuid4(), "x"):
        answer = await service.client.delete(f"{SESSIONS}/{session_id}", headers=bob)
        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
    assert not await is_refused(service, ann)


async def test_log_ins_log_outs_and_stolen_tokens_are_audited(service: Service, pool: Pool) -> None:
    await service.confirm()
    before = len(await events(pool))
    tokens = await log_in(service)
    await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})
    async with pool.connection() as conn:
        await conn.execute("UPDATE sessions SET refreshed_at = refreshed_at - interval '11 seconds'")
    reused = await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})
    assert (reused.status_code, reused.json()["code"]) == (401, "refresh_token_reused")
    await service.wait_mail(number=2)  # its owner is told
    await service.client.post("/api/v1/logout", headers=bearer(await log_in(service)))
    await service.client.post("/api/v1/logout/all", headers=bearer(await log_in(service)))
    assert (await events(pool))[before:] == [
        ("logged_in", "user"),
        ("refresh_token_reused", "anonymous"),
        ("logged_in", "user"),
        ("logged_out", "user"),
        ("logged_in", "user"),
        ("logged_out_everywhere", "user"),
    ]


async def test_a_failed_log_in_is_audited_with_the_account_if_there_is_one_and_never_with_the_address(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    for address in ("ann@example.com", "nobody@example.com", "no address"):
        await service.post("/login", {"email": address, "password": "wrong password"})
    async with pool.connection() as conn:
        cursor = await conn.execute(
            """
            SELECT u.email, a.request_id IS NOT NULL, a.origin, a.details::text
              FROM audit_events a LEFT JOIN users u ON u.id = a.user_id
             WHERE a.event = 'login_failed' ORDER BY a.id
            """
        )
        found = await cursor.fetchall()
    assert found == [
        ("ann@example.com", True, "127.0.0.0/24", "{}"),
        (None, True, "127.0.0.0/24", "{}"),
        (None, True, "127.0.0.0/24", "{}"),
    ]


async def test_two_log_ins_that_both_replace_an_old_hash_both_succeed(service: Service, pool: Pool) -> None:
    await service.confirm()
    plain = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    for _ in range(3):
        async with pool.connection() as conn:
            await conn.execute("UPDATE users SET password_hash = %s", [plain])
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(service.log_in)
