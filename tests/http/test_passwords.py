"""Choosing another password while one knows the old one."""

from __future__ import annotations

from pathlib import Path

import bcrypt
import pytest

from regsvc.postgres.pool import Pool
from tests.services import PASSWORD, Service, run_test_service

OTHER = "another horse battery"


async def fetch(pool: Pool, statement: str) -> list[tuple[object, ...]]:
    async with pool.connection() as conn:
        cursor = await conn.execute(statement.encode())
        return await cursor.fetchall()


async def change(
    service: Service, bearer: dict[str, str], current: str = PASSWORD, new: str = OTHER
) -> tuple[int, str | None]:
    """Change the password and return status and code of the answer."""
    answer = await service.client.put(
        "/api/v1/me/password", json={"current_password": current, "new_password": new}, headers=bearer
    )
    return answer.status_code, answer.json()["code"] if answer.content else None


async def status_of_login(service: Service, password: str) -> int:
    answer = await service.post("/login", {"email": "ann@example.com", "password": password})
    return answer.status_code


async def test_a_changed_password_replaces_the_old_one_and_ends_every_other_session(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    elsewhere, here = await service.log_in(), await service.log_in()
    assert await change(service, here) == (204, None)
    assert (await service.client.get("/api/v1/me", headers=here)).status_code == 200
    assert (await service.client.get("/api/v1/me", headers=elsewhere)).status_code == 401
    assert await status_of_login(service, PASSWORD) == 401
    assert await status_of_login(service, OTHER) == 200
    events = "SELECT actor, details->>'sessions_ended' FROM audit_events WHERE event = 'password_changed'"
    assert await fetch(pool, events) == [("user", "1")]


async def test_the_owner_is_told_of_a_changed_password(service: Service) -> None:
    await service.confirm()
    await change(service, await service.log_in())
    mail = await service.wait_mail(number=2)
    assert mail.message["Subject"] == "Your password for regsvc was changed"
    assert OTHER not in mail.text


async def test_whoever_does_not_know_the_password_changes_nothing(service: Service, pool: Pool) -> None:
    await service.confirm()
    bearer = await service.log_in()
    before = await fetch(pool, "SELECT password_hash FROM users")
    assert await change(service, bearer, current="not this one") == (403, "wrong_password")
    assert await change(service, {}) == (401, "access_token_invalid")
    assert await fetch(pool, "SELECT password_hash FROM users") == before
    assert len(service.mails("ann@example.com")) == 1


@pytest.mark.parametrize("new", ["short", "ANN@example.com", "x" * 129])
async def test_a_new_password_keeps_to_the_policy(service: Service, new: str) -> None:
    await service.confirm()
    answer = await service.client.put(
        "/api/v1/me/password",
        json={"current_password": PASSWORD, "new_password": new},
        headers=await service.log_in(),
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "weak_password")
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/new_password"}


async def test_every_new_password_keeps_to_the_strict_policy_where_that_is_set(
    database: str, tmp_path: Path
) -> None:
    """Signing up, changing, resetting: each refuses what everybody tries, and takes what nobody does."""
    common, good = "qwertyuiop123456", "seven otters knit quietly"
    async with run_test_service(database, tmp_path, {"REGSVC_PASSWORD_POLICY": "strict"}) as service:
        sign_up = {"email": "ann@example.com", "password": common, "name": "Ann"}
        answers = [await service.post("/register", sign_up)]
        await service.confirm(password=PASSWORD)
        bearer = await service.log_in()
        body = {"current_password": PASSWORD, "new_password": common}
        answers.append(await service.client.put("/api/v1/me/password", json=body, headers=bearer))
        await service.post("/password/forgot", {"email": "ann@example.com"})
        token = (await service.wait_mail(number=2)).token_for("reset")
        answers.append(await service.post("/password/reset", {"token": token, "password": common}))
        found = [(a.status_code, a.json()["code"], a.json()["errors"][0]["code"]) for a in answers]
        assert found == [(422, "weak_password", "common")] * 3
        taken = await service.post("/password/reset", {"token": token, "password": good})
        assert taken.status_code == 204


async def test_a_stolen_session_does_not_guess_the_password_faster_than_a_log_in(
    database: str, tmp_path: Path
) -> None:
    """Whatever asks for the password counts together, and being right does not wait for long."""
    async with run_test_service(database, tmp_path, {"REGSVC_RATE_LIMITS": "on"}) as service:
        await service.confirm()
        bearer = await service.log_in()
        move = {"email": "new@example.com", "password": "not this one"}
        answers = [await change(service, bearer, current="not this one") for _ in range(2)]
        answers += [
            (moved.status_code, moved.json()["code"])
            for moved in [await service.post("/me/email", move, bearer) for _ in range(3)]
        ]
        assert answers == [(403, "wrong_password")] * 4 + [(429, "rate_limited")]
        assert await change(service, bearer) == (429, "rate_limited")


@pytest.mark.parametrize("version", ["2a", "2b"])
async def test_the_hash_of_another_system_opens_the_account_and_is_replaced_by_one_of_ours(
    service: Service, pool: Pool, version: str
) -> None:
    """Also of a password that is longer than bcrypt can see; the second log-in is by the new hash."""
    await service.confirm()
    long = "x" * 71 + "yz"
    theirs = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode().replace("$2b$", f"${version}$", 1)
    async with pool.connection() as conn:
        await conn.execute("UPDATE users SET password_hash = %s", (theirs,))
    assert await status_of_login(service, "x" * 71) == 401
    assert await fetch(pool, "SELECT password_hash FROM users") == [(theirs,)]
    assert await status_of_login(service, long) == 200
    ((ours,),) = await fetch(pool, "SELECT password_hash FROM users")
    assert str(ours).startswith("$hmac-sha384-bcrypt$")
    assert await status_of_login(service, long) == 200
    assert await fetch(pool, "SELECT password_hash FROM users") == [(ours,)]
    assert await status_of_login(service, "x" * 71 + "y") == 401
