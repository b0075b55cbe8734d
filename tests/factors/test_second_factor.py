"""Logging in with a second factor, over the API."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest
import trio

from regsvc.accounts.factors.guesses import DAILY, HOURLY
from regsvc.accounts.factors.pending_logins import TRIES
from regsvc.postgres.pool import Pool
from tests.factors.people import begin, finish, own_app_of
from tests.services import PASSWORD, Service, run_test_service

LOGIN = {"email": "ann@example.com", "password": PASSWORD}


async def test_a_user_with_an_app_gets_tokens_only_after_the_second_factor(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    owner = await own_app_of(pool)
    first = await service.post("/login", LOGIN)
    assert first.status_code == 401
    assert first.json()["code"] == "second_factor_required"
    assert first.json()["methods"] == ["totp", "recovery_code"]
    assert "access_token" not in first.json()
    assert first.headers["Cache-Control"] == "no-store"
    second = await finish(service, first.json()["mfa_token"], code=owner.code())
    assert second.status_code == 200, second.text
    claims = jwt.decode(second.json()["access_token"], options={"verify_signature": False})
    assert set(claims["amr"]) == {"pwd", "otp", "mfa"}
    assert claims["auth_time"] <= claims["iat"]
    headers = {"Authorization": f"Bearer {second.json()['access_token']}"}
    assert (await service.client.get("/api/v1/me", headers=headers)).status_code == 200
    refreshed = await service.post("/token/refresh", {"refresh_token": second.json()["refresh_token"]})
    again = jwt.decode(refreshed.json()["access_token"], options={"verify_signature": False})
    assert (again["amr"], again["auth_time"]) == (claims["amr"], claims["auth_time"])


async def test_the_second_factor_shows_only_when_the_password_is_right(service: Service, pool: Pool) -> None:
    await service.confirm()
    await own_app_of(pool)
    known = await service.post("/login", LOGIN | {"password": "another password"})
    unknown = await service.post("/login", {"email": "bob@example.com", "password": PASSWORD})
    assert known.status_code == unknown.status_code == 401
    differing = {"request_id"}
    assert {k: v for k, v in known.json().items() if k not in differing} == {
        k: v for k, v in unknown.json().items() if k not in differing
    }


async def test_a_login_without_a_second_factor_says_how_and_when(service: Service) -> None:
    await service.confirm()
    answer = await service.post("/login", LOGIN)
    claims = jwt.decode(answer.json()["access_token"], options={"verify_signature": False})
    assert claims["amr"] == ["pwd"]


async def test_a_code_is_taken_once_in_any_login(service: Service, pool: Pool) -> None:
    await service.confirm()
    owner = await own_app_of(pool)
    tokens = [await begin(service) for _ in range(2)]
    code = owner.code()
    assert (await finish(service, tokens[0], code=code)).status_code == 200
    again = await finish(service, tokens[1], code=code)
    assert (again.status_code, again.json()["code"]) == (401, "second_factor_invalid")
    over = await finish(service, tokens[0], code=owner.code(1))
    assert (over.status_code, over.json()["code"]) == (401, "mfa_token_invalid")
    assert (await finish(service, tokens[1], code=owner.code(1))).status_code == 200


@pytest.mark.parametrize("steps", [-2, 2])
async def test_a_code_more_than_one_step_away_is_wrong(service: Service, pool: Pool, steps: int) -> None:
    await service.confirm()
    owner = await own_app_of(pool)
    # A step further: the clock may go on before the code arrives.
    answer = await finish(service, await begin(service), code=owner.code(steps + (1 if steps > 0 else -1)))
    assert answer.json()["code"] == "second_factor_invalid"


async def test_a_code_of_the_step_before_is_right(service: Service, pool: Pool) -> None:
    await service.confirm()
    owner = await own_app_of(pool)
    with trio.fail_after(60):
        # Where the step ends between here and there, the code is of two steps ago: try again.
        while (await finish(service, await begin(service), code=owner.code(-1))).status_code != 200:
            pass


async def test_a_token_has_five_tries(service: Service, pool: Pool) -> None:
    await service.confirm()
    owner = await own_app_of(pool)
    token = await begin(service)
    for _ in range(TRIES):
        assert (await finish(service, token, code=owner.wrong_code())).json()[
            "code"
        ] == "second_factor_invalid"
    over = await finish(service, token, code=owner.code())
    assert (over.status_code, over.json()["code"]) == (401, "mfa_token_invalid")


async def test_what_is_no_six_digits_spends_no_try(service: Service, pool: Pool) -> None:
    await service.confirm()
    owner = await own_app_of(pool)
    token = await begin(service)
    for _ in range(TRIES + 1):
        assert (await finish(service, token, code="12345")).json()["code"] == "second_factor_invalid"
    spaced = f"{owner.code()[:3]} {owner.code()[3:]}"
    assert (await finish(service, token, code=spaced)).status_code == 200


async def test_a_recovery_code_logs_in_once_however_it_is_typed(service: Service, pool: Pool) -> None:
    await service.confirm()
    owner = await own_app_of(pool)
    code = owner.recovery_codes[0]
    typed = code.lower().replace("0", "o").replace("1", "l").replace("-", " ")
    answer = await finish(service, await begin(service), recovery_code=typed)
    assert answer.status_code == 200, answer.text
    used = await finish(service, await begin(service), recovery_code=code)
    assert used.json()["code"] == "second_factor_invalid"


async def test_another_password_ends_logins_that_wait_for_their_second_factor(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    headers = await service.log_in()
    owner = await own_app_of(pool)
    token = await begin(service)
    body = {"current_password": PASSWORD, "new_password": "another horse battery"}
    changed = await service.client.put("/api/v1/me/password", json=body, headers=headers)
    assert changed.status_code == 204, changed.text
    answer = await finish(service, token, code=owner.code())
    assert answer.json()["code"] == "mfa_token_invalid"


async def test_a_reset_removes_no_factor(service: Service, pool: Pool) -> None:
    await service.confirm()
    owner = await own_app_of(pool)
    await service.post("/password/forgot", {"email": "ann@example.com"})
    token = await service.wait_link("reset")
    assert (await service.post("/password/reset", {"token": token, "password": PASSWORD})).status_code == 204
    assert (await finish(service, await begin(service), code=owner.code())).status_code == 200


async def test_ten_wrong_factors_an_hour_hold_back_strangers_and_a_hundred_a_day_everyone(
    database: str, tmp_path: Path, pool: Pool
) -> None:
    environ = {"REGSVC_RATE_LIMITS": "on", "REGSVC_TRUSTED_PROXIES": "127.0.0.1/32"}
    async with run_test_service(database, tmp_path, environ) as service:
        await service.confirm()
        async with pool.connection() as conn:
            await conn.execute("DELETE FROM login_clients")
        owner = await own_app_of(pool)

        async def guess(client: str, **factor: str) -> tuple[int, str]:
            headers = {"X-Forwarded-For": client}
            first = await service.post("/login", LOGIN, headers)
            assert first.json()["code"] == "second_factor_required", first.text
            token = first.json()["mfa_token"]
            answer = await service.post("/login/second-factor", {"mfa_token": token, **factor}, headers)
            return answer.status_code, answer.json().get("code", "")

        assert (await guess("192.0.2.7", code=owner.code()))[0] == 200  # known from now on
        async with pool.connection() as conn:
            await conn.execute("DELETE FROM login_failures")
        for number in range(HOURLY - 1):
            assert (await guess(f"198.51.100.{number}", code=owner.wrong_code()))[0] == 401
        assert (await guess("198.51.100.99", code=owner.wrong_code()))[0] == 401
        async with pool.connection() as conn:
            await conn.execute("DELETE FROM login_failures")
        assert await guess("203.0.113.1", code=owner.code(1)) == (429, "rate_limited")
        assert (await guess("192.0.2.7", code=owner.code(1)))[0] == 200
        async with pool.connection() as conn:
            await conn.execute(
                "UPDATE factor_guesses SET made_at = ARRAY(SELECT now() - make_interval(hours => 2, secs => n)"
                " FROM generate_series(%s, 1, -1) AS n)",
                [DAILY - 1],
            )
            await conn.execute("UPDATE totp_authenticators SET last_step = 0")
        assert not told(service)
        assert (await guess("192.0.2.7", code=owner.wrong_code()))[0] == 401
        with trio.fail_after(20):
            while not told(service):  # noqa: ASYNC110 - a folder has no event
                await trio.sleep(0.02)
        assert "/panic#t=" in told(service)[0]
        assert await guess("192.0.2.7", code=owner.code()) == (429, "rate_limited")
        assert (await guess("192.0.2.7", recovery_code=owner.recovery_codes[0]))[0] == 200
        assert len(told(service)) == 1


def told(service: Service) -> list[str]:
    """Return the mails to the owner that say that codes have stopped."""
    return [mail.text for mail in service.mails("ann@example.com") if "Too many wrong codes" in mail.text]


async def test_the_first_step_is_forgiven_only_when_the_second_has_passed(
    database: str, tmp_path: Path, pool: Pool
) -> None:
    async with run_test_service(database, tmp_path, {"REGSVC_RATE_LIMITS": "on"}) as service:
        await service.confirm()
        owner = await own_app_of(pool)
        async with pool.connection() as conn:
            await conn.execute("DELETE FROM login_clients")

        async def count() -> tuple[int, int]:
            async with pool.connection() as conn:
                cursor = await conn.execute(
                    "SELECT (SELECT coalesce(sum(failures), 0) FROM login_failures),"
                    " (SELECT count(*) FROM login_clients)"
                )
                row = await cursor.fetchone()
                assert row is not None
                return int(row[0]), int(row[1])

        tokens = [await begin(service) for _ in range(2)]
        assert await count() == (2, 0)
        assert (await finish(service, tokens[0], code=owner.wrong_code())).status_code == 401
        assert await count() == (2, 0)
        assert (await finish(service, tokens[0], code=owner.code())).status_code == 200
        assert await count() == (1, 2)


async def test_exactly_one_factor_is_given(service: Service) -> None:
    for factors in ({}, {"code": "123456", "recovery_code": "ABCDE-FGHJK"}):
        answer = await service.post("/login/second-factor", {"mfa_token": "x", **factors})
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")


async def test_a_made_up_token_is_refused(service: Service) -> None:
    answer = await finish(service, "x" * 43, code="123456")
    assert (answer.status_code, answer.json()["code"]) == (401, "mfa_token_invalid")


async def test_changes_need_a_proof_which_holds_for_the_session(service: Service, pool: Pool) -> None:
    await service.confirm()
    headers, other = await service.log_in(), await service.log_in()
    owner = await own_app_of(pool)
    me = "/api/v1/me"
    refused = [
        await service.client.get(f"{me}/export", headers=headers),
        await service.client.delete(me, headers=headers),
        await service.post("/me/email", {"email": "new@example.com"}, headers),
        await service.client.put(f"{me}/password", json={"new_password": "x" * 20}, headers=headers),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json()["code"]) == (403, "proof_needed"), answer.text
        assert answer.json()["methods"] == ["password", "totp"]
    wrong = await service.post("/me/proof", {"code": owner.wrong_code()}, headers)
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong_code")
    right = await service.post("/me/proof", {"code": owner.code()}, headers)
    assert right.status_code == 200, right.text
    assert (await service.client.get(f"{me}/export", headers=headers)).status_code == 200
    assert (await service.client.get(f"{me}/export", headers=other)).status_code == 403
    async with pool.connection() as conn:
        await conn.execute("UPDATE sessions SET proved_until = now() WHERE proved_until IS NOT NULL")
    assert (await service.client.get(f"{me}/export", headers=headers)).status_code == 403
    await service.prove(headers)
    assert (await service.client.delete(me, headers=headers)).status_code == 204
