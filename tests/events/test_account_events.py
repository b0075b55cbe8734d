"""Every cause of an event about a user, a session or a factor is told once, by what really causes it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from regsvc.accounts.admin import user_actions
from regsvc.accounts.sessions.session import purge_sessions
from regsvc.postgres.pool import Pool
from tests.events.causes import listen, telling
from tests.events.happenings import OPERATOR, read_rows
from tests.http.administrators import log_in_admin
from tests.http.factor_calls import code_of
from tests.http.test_panic import notified
from tests.identities.issuer import Issuer, provider_environment
from tests.identities.visitor import visiting
from tests.passkeys import Authenticator
from tests.services import PASSWORD, Service, run_test_service

pytestmark = pytest.mark.timeout(60)
ANN = "ann@example.com"
ME = "/api/v1/me"
Bearer = dict[str, str]


@pytest.fixture
async def service(database: str, tmp_path: Path, pool: Pool) -> AsyncIterator[Service]:
    async with run_test_service(database, tmp_path) as service:
        await service.confirm()
        await listen(pool)
        yield service


async def find_user(pool: Pool, address: str = ANN) -> UUID:
    ((found,),) = await read_rows(pool, "SELECT id FROM users WHERE email = %s", address)
    assert isinstance(found, UUID)
    return found


async def start(service: Service, pool: Pool) -> Bearer:
    """Log Ann in, which is told."""
    async with telling(pool, "session.started") as told:
        bearer = await service.log_in()
    assert told[0]["amr"] == ["pwd"]
    return bearer


@asynccontextmanager
async def ending(service: Service, pool: Pool, reason: str, *more: str) -> AsyncIterator[Bearer]:
    """Log Ann in; the block ends that session, for this reason, and causes these events after it."""
    bearer = await start(service, pool)
    async with telling(pool, "session.ended", *more) as told:
        yield bearer
    assert told[0]["reason"] == reason


async def test_a_profile_is_told_as_changed_with_the_fields(service: Service, pool: Pool) -> None:
    bearer = await start(service, pool)
    for body, fields in (({"name": "Anna"}, ["name"]), ({"name": "Ann", "locale": "de"}, ["name", "locale"])):
        async with telling(pool, "user.updated") as told:
            for _ in range(2):  # the second changes nothing
                answer = await service.client.patch(ME, json=body, headers=bearer)
                assert answer.status_code == 200, answer.text
        assert told[0]["fields"] == fields
    async with telling(pool, "user.updated") as told:
        await service.post("/me/email", {"email": "ann@example.net", "password": PASSWORD}, bearer)
        token = await service.wait_link("email-change", "ann@example.net")
        answer = await service.post("/me/email/confirm", {"token": token}, bearer)
        assert answer.status_code == 200, answer.text
    assert told[0]["fields"] == ["email"]


async def test_what_an_administrator_does_to_an_account_is_told_once(service: Service, pool: Pool) -> None:
    admin, ann = await log_in_admin(service, pool), await find_user(pool)
    path = f"/api/v1/admin/users/{ann}"
    async with ending(service, pool, "ended_by_operator"):
        await service.client.post(f"{path}/end-sessions", headers=admin)
    bearer = await start(service, pool)
    async with telling(pool, "user.disabled", "session.ended") as told:
        for _ in range(2):
            await service.client.post(f"{path}/disable", headers=admin)
    assert told[1]["reason"] == "user_disabled"
    async with telling(pool, "user.enabled"):
        for _ in range(2):
            await service.client.post(f"{path}/enable", headers=admin)
    bearer = await start(service, pool)
    async with telling(pool, "user.updated", "session.ended") as told, pool.transaction() as conn:
        await user_actions.set_role(conn, ann, "admin", OPERATOR)
    assert (told[0]["role"], told[0]["fields"], told[1]["reason"]) == ("admin", ["role"], "role_changed")
    bearer = await start(service, pool)
    async with telling(pool, "session.ended", "user.deleted") as told:
        assert (await service.client.delete(path, headers=admin)).status_code == 204
    assert told[0]["reason"] == "user_deleted"
    assert (await service.client.get(ME, headers=bearer)).status_code == 401


async def test_a_session_that_its_user_ends_is_told_once(service: Service, pool: Pool) -> None:
    async with ending(service, pool, "logout") as bearer:
        for _ in range(2):
            await service.post("/logout", {}, bearer)
    kept = await start(service, pool)
    async with ending(service, pool, "ended_by_user"):
        listed = (await service.client.get("/api/v1/sessions", headers=kept)).json()["sessions"]
        (other,) = [each["id"] for each in listed if not each["current"]]
        for _ in range(2):
            await service.client.delete(f"/api/v1/sessions/{other}", headers=kept)
    bearer = await start(service, pool)
    async with telling(pool, "session.ended", "session.ended") as told:
        await service.post("/logout/all", {}, bearer)
    assert {each["reason"] for each in told} == {"logout_all"}
    bearer = await start(service, pool)
    async with telling(pool, "session.ended", "user.deleted"):
        await service.client.request("DELETE", ME, json={"password": PASSWORD}, headers=bearer)


async def test_a_session_that_ends_for_safety_is_told_once(service: Service, pool: Pool) -> None:
    bearer = await start(service, pool)
    async with ending(service, pool, "password_changed"):
        await service.prove(bearer)
        body = {"new_password": PASSWORD + "!"}
        assert (await service.client.put(f"{ME}/password", json=body, headers=bearer)).status_code == 204
    login = {"email": ANN, "password": PASSWORD + "!"}
    async with telling(pool, "session.started"):
        first = (await service.post("/login", login)).json()
    async with telling(pool, "session.ended") as told:
        token = first["refresh_token"]
        for _ in range(2):
            token = (await service.post("/token/refresh", {"refresh_token": token})).json()["refresh_token"]
        for _ in range(2):
            await service.post("/token/refresh", {"refresh_token": first["refresh_token"]})
    assert told[0]["reason"] == "refresh_token_reused"
    async with telling(pool, "session.ended") as told:
        await service.post("/password/forgot", {"email": ANN})
        token = await service.wait_link("reset")
        body = {"token": token, "password": PASSWORD}
        assert (await service.post("/password/reset", body)).status_code == 204
    assert told[0]["reason"] == "password_reset"


async def test_an_account_that_is_taken_back_ends_its_sessions_once(service: Service, pool: Pool) -> None:
    async with ending(service, pool, "panic"):
        token = await notified(service, pool)
        for _ in range(2):
            await service.post("/me/panic", {"token": token})


async def test_an_expired_session_is_told_once_when_it_is_deleted(service: Service, pool: Pool) -> None:
    async with ending(service, pool, "expired"), pool.connection() as conn:
        await conn.execute("UPDATE sessions SET expires_at = now() WHERE ended_at IS NULL")
        for _ in range(2):
            await purge_sessions(conn, 500)
    async with ending(service, pool, "logout") as bearer:  # one that had ended is not told of again
        await service.post("/logout", {}, bearer)
        async with pool.connection() as conn:
            await conn.execute("UPDATE sessions SET expires_at = now()")
            await purge_sessions(conn, 500)


async def add_app(service: Service, bearer: Bearer) -> None:
    """Add an authenticator app."""
    secret = (await service.post("/me/totp", {}, bearer)).json()["secret"]
    for step in (-1, 0):
        answer = await service.post("/me/totp/confirm", {"code": code_of(secret, step)}, bearer)
        if answer.status_code == 200:
            return
    raise AssertionError(answer.text)


async def add_passkey(service: Service, bearer: Bearer) -> str:
    """Add a passkey and return its id."""
    options = (await service.post("/me/passkeys/options", {}, bearer)).json()
    body = {"passkey": Authenticator(service.url).create(options), "name": "A phone"}
    answer = await service.post("/me/passkeys", body, bearer)
    assert answer.status_code == 201, answer.text
    listed = (await service.client.get(f"{ME}/passkeys", headers=bearer)).json()["passkeys"]
    found: str = listed[0]["id"]
    return found


async def test_factors_are_told_as_added_and_removed_once(service: Service, pool: Pool) -> None:
    bearer = await start(service, pool)
    await service.prove(bearer)
    async with telling(pool, "factor.added") as told:
        await add_app(service, bearer)
    assert (told[0]["factor"], "id" in told[0]) == ("totp", False)
    async with telling(pool, "factor.removed") as told:
        for _ in range(2):
            await service.client.delete(f"{ME}/totp", headers=bearer)
    assert told[0]["factor"] == "totp"
    async with telling(pool, "factor.added") as told:
        passkey = await add_passkey(service, bearer)
    assert (told[0]["factor"], told[0]["id"]) == ("passkey", passkey)
    async with telling(pool, "factor.removed") as told:
        for _ in range(2):
            await service.client.delete(f"{ME}/passkeys/{passkey}", headers=bearer)
    assert told[0]["id"] == passkey


async def test_factors_that_others_take_away_are_told_once(service: Service, pool: Pool) -> None:
    bearer, ann = await start(service, pool), await find_user(pool)
    await service.prove(bearer)
    async with telling(pool, "factor.added", "factor.added"):
        await add_app(service, bearer)
        await add_passkey(service, bearer)
    ((before,),) = await read_rows(pool, "SELECT coalesce(max(n), 0) FROM events")
    async with pool.transaction() as conn:
        await user_actions.reset_factors(conn, ann, OPERATOR)
    told: list[tuple[str, dict[str, Any]]] = await read_rows(
        pool, "SELECT type, data FROM events WHERE n > %s AND type LIKE 'factor.%%'", before
    )
    assert sorted((kind, data["factor"]) for kind, data in told) in (
        [("factor.removed", "totp")],
        [("factor.removed", "passkey"), ("factor.removed", "totp")],
    )


async def test_an_account_at_a_provider_is_a_way_in_and_a_factor(
    database: str, tmp_path: Path, pool: Pool
) -> None:
    with Issuer().running() as issuer:
        async with run_test_service(database, tmp_path, provider_environment("OWN", issuer)) as service:
            await listen(pool)
            created = ("user.created", "factor.added", "session.started")
            async with telling(pool, *created) as told, visiting(service) as visitor:
                assert (await visitor.go("own", issuer)).status_code == 303
            assert told[1]["factor"] == "identity"
            async with telling(pool, "session.started"), visiting(service) as visitor:
                assert (await visitor.go("own", issuer)).status_code == 303
