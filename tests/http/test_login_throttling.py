"""Guessing passwords over HTTP: limits of a client, growing waits of an address, and nothing that tells of accounts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.flows.rate_limits import LOGIN, LOGIN_ADDRESS
from regsvc.postgres.pool import Pool
from tests.accounts.mails import wait_blocked
from tests.limits import use_up
from tests.services import PASSWORD, Service, run_test_service

OWNER = "192.0.2.1"


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that keeps its limits, behind a proxy on this machine: a test says which client it is."""
    environ = {"REGSVC_RATE_LIMITS": "on", "REGSVC_TRUSTED_PROXIES": "127.0.0.0/8"}
    async with run_test_service(database, tmp_path, environ) as service:
        yield service


async def log_in(
    service: Service, client: str, address: str = "ann@example.com", password: str = "a wrong one"
) -> httpx.Response:
    body = {"email": address, "password": password}
    return await service.post("/login", body, {"X-Forwarded-For": client})


async def pass_time(pool: Pool, **time: float) -> None:
    async with pool.connection() as conn:
        by = {"by": timedelta(**time)}
        await conn.execute("UPDATE login_failures SET last_at = last_at - %(by)s", by)


async def test_a_client_tries_five_times_a_minute_for_an_address_and_twenty_in_all(
    service: Service, pool: Pool
) -> None:
    wrong = await log_in(service, OWNER)
    assert wrong.status_code == 401
    assert wrong.headers["RateLimit-Policy"] == '"login";q=20;w=60, "login-address";q=5;w=60'
    assert wrong.headers["RateLimit"] == '"login";r=19;t=3, "login-address";r=4;t=12'
    await use_up(pool, LOGIN_ADDRESS, OWNER, "ann@example.com")
    refused = await log_in(service, OWNER)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) > 0
    assert (await log_in(service, OWNER, "bob@example.com")).status_code == 401
    assert (await log_in(service, "192.0.2.2")).status_code == 401
    await use_up(pool, LOGIN, "2001:db8::/64")
    assert (await log_in(service, "2001:db8::2", "bob@example.com")).status_code == 429


async def test_many_clients_that_guess_one_password_wait_and_its_owner_does_not(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    assert (await log_in(service, OWNER, password=PASSWORD)).status_code == 200
    for number in range(10):
        assert (await log_in(service, f"203.0.{number}.1")).status_code == 401
    refused = await log_in(service, "203.0.113.1", password=PASSWORD)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 30
    assert (await log_in(service, OWNER, password=PASSWORD)).status_code == 200
    await pass_time(pool, seconds=30)
    assert (await log_in(service, "203.0.113.1", password=PASSWORD)).status_code == 200


async def test_what_is_refused_is_in_the_audit_log_without_the_address(service: Service, pool: Pool) -> None:
    for number in range(11):
        await log_in(service, f"203.0.{number}.1")
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT actor, user_id, origin, details::text FROM audit_events WHERE event = 'login_held_back'"
        )
        assert await cursor.fetchall() == [("anonymous", None, "203.0.10.0/24", "{}")]


async def test_limits_do_not_tell_who_has_an_account(service: Service, pool: Pool) -> None:
    """Known, waiting for confirmation, unknown, and no address at all: status, headers and body are the same."""
    await service.confirm("owner@example.com")
    await service.sign_up("waiting@example.com")
    seen = []
    for number, address in enumerate(
        ("owner@example.com", "waiting@example.com", "unknown@example.com", "none")
    ):
        answers = []
        for guess in range(12):
            answer = await log_in(service, f"10.{number}.{guess}.1", address)
            headers = {name for name in answer.headers if name != "date"}
            body = {key: value for key, value in answer.json().items() if key != "request_id"}
            answers.append((answer.status_code, headers, body, answer.headers.get("RateLimit")))
        seen.append(answers)
    assert [status for status, *_ in seen[0]] == [401] * 10 + [429] * 2
    assert seen[0] == seen[1] == seen[2] == seen[3]


async def test_how_an_address_is_written_makes_no_difference(service: Service) -> None:
    for number in range(10):
        await log_in(service, f"203.0.{number}.1", "Ann@Example.com" if number % 2 else "ann@example.com")
    assert (await log_in(service, "203.0.113.1", "ANN@example.COM")).status_code == 429


async def test_who_set_the_password_by_a_mailed_link_does_not_wait_for_strangers(service: Service) -> None:
    """An owner who comes from a new place while somebody guesses has a way in."""
    await service.confirm()
    for number in range(10):
        await log_in(service, f"203.0.{number}.1")
    assert (await log_in(service, OWNER, password=PASSWORD)).status_code == 429
    here = {"X-Forwarded-For": OWNER}
    assert (await service.post("/password/forgot", {"email": "ann@example.com"}, here)).status_code == 202
    mail = await service.wait_mail(number=2)
    found = re.search(r"#t=(\S+)", mail.text)
    assert found is not None
    body = {"token": found[1], "password": "another good password"}
    assert (await service.post("/password/reset", body, here)).status_code == 204
    assert (await log_in(service, OWNER, password=body["password"])).status_code == 200


async def test_strangers_who_guess_before_there_is_an_account_do_not_keep_its_owner_out(
    service: Service,
) -> None:
    for number in range(10):
        await log_in(service, f"203.0.{number}.1")
    await service.sign_up()
    pressed = {"token": (await service.wait_mail()).token}
    assert (await service.post("/confirm-email", pressed, {"X-Forwarded-For": OWNER})).status_code == 200
    assert (await log_in(service, "203.0.113.1", password=PASSWORD)).status_code == 429
    assert (await log_in(service, OWNER, password=PASSWORD)).status_code == 200


async def test_who_deletes_the_account_is_not_remembered(service: Service, pool: Pool) -> None:
    await service.confirm()
    bearer = await service.log_in()
    answer = await service.client.request("DELETE", "/api/v1/me", json={"password": PASSWORD}, headers=bearer)
    assert answer.status_code == 204
    async with pool.connection() as conn:
        assert await (await conn.execute("SELECT count(*) FROM login_clients")).fetchone() == (0,)


async def test_whoever_was_known_before_a_reset_is_a_stranger_after_it(service: Service) -> None:
    thief = "198.51.100.1"
    await service.confirm()
    assert (await log_in(service, thief, password=PASSWORD)).status_code == 200
    here = {"X-Forwarded-For": OWNER}
    assert (await service.post("/password/forgot", {"email": "ann@example.com"}, here)).status_code == 202
    token = (await service.wait_mail(number=2)).token_for("reset")
    body = {"token": token, "password": "another good password"}
    assert (await service.post("/password/reset", body, here)).status_code == 204
    for number in range(10):
        await log_in(service, f"203.0.{number}.1")
    assert (await log_in(service, thief)).status_code == 429, "it waits with the strangers"
    assert (await log_in(service, OWNER, password=body["password"])).status_code == 200


async def test_whoever_was_known_before_the_password_was_changed_is_a_stranger_after_it(
    service: Service,
) -> None:
    thief, here = "198.51.100.1", {"X-Forwarded-For": OWNER}
    await service.confirm()
    assert (await log_in(service, thief, password=PASSWORD)).status_code == 200
    tokens = (await log_in(service, OWNER, password=PASSWORD)).json()
    body = {"current_password": PASSWORD, "new_password": "another good password"}
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"} | here
    assert (await service.client.put("/api/v1/me/password", json=body, headers=bearer)).status_code == 204
    for number in range(10):
        await log_in(service, f"203.0.{number}.1")
    assert (await log_in(service, thief)).status_code == 429
    assert (await log_in(service, OWNER, password=body["new_password"])).status_code == 200


async def test_a_session_names_its_software_whichever_row_counted_the_attempt(service: Service) -> None:
    await service.confirm()
    for client in ("203.0.113.1", OWNER, OWNER):
        tokens = (await log_in(service, client, password=PASSWORD)).json()
        header = {"Authorization": f"Bearer {tokens['access_token']}"}
        (now,) = [
            each
            for each in (await service.client.get("/api/v1/sessions", headers=header)).json()["sessions"]
            if each["current"]
        ]
        assert now["client"] == "a Python program"


async def failures(pool: Pool) -> int:
    async with pool.connection() as conn:
        return (await conn.execute("SELECT FROM login_failures")).rowcount


@asynccontextmanager
async def locked(pool: Pool, table: str) -> AsyncIterator[None]:
    """Have every statement that reads or writes a table wait as long as the block lasts."""
    async with pool.transaction(limit=30) as conn:
        await conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await conn.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield


async def wait_no_failures(pool: Pool) -> None:
    with trio.fail_after(30):
        while await failures(pool):  # noqa: ASYNC110 - a row has no event
            await trio.sleep(0.02)


async def test_a_client_that_hangs_up_before_it_is_told_has_not_guessed(service: Service, pool: Pool) -> None:
    await service.confirm()
    async with locked(pool, "audit_events"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_in, service, "203.0.113.1", "ann@example.com", "another password")
            await wait_blocked(pool)
            assert await failures(pool) == 1
            nursery.cancel_scope.cancel()
        await wait_no_failures(pool)


@pytest.mark.parametrize("table", ["users", "sessions"])  # locked before the attempt is counted, and after
async def test_an_attempt_whose_database_fails_is_no_wrong_guess(
    service: Service, pool: Pool, table: str
) -> None:
    await service.confirm()
    answers = []

    async def try_right() -> None:
        answers.append(await log_in(service, "203.0.113.1", password=PASSWORD))

    async with locked(pool, table), trio.open_nursery() as nursery:
        nursery.start_soon(try_right)
        await wait_blocked(pool)
        async with pool.connection() as conn:
            await conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
            )
    assert answers[0].status_code == 503
    assert await failures(pool) == 0


async def test_a_second_proof_that_is_interrupted_is_no_wrong_guess(service: Service, pool: Pool) -> None:
    await service.confirm()
    bearer = await service.log_in()
    async with pool.connection() as conn:
        await conn.execute("DELETE FROM login_clients")
    body = {"current_password": PASSWORD, "new_password": "another good password"}

    async def change() -> None:
        await service.client.put("/api/v1/me/password", json=body, headers=bearer)

    async with pool.transaction(limit=30) as conn:
        await conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await conn.execute("LOCK TABLE login_clients IN SHARE MODE")  # to forgive is to write there
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change)
            await wait_blocked(pool)
            assert await failures(pool) == 1
            nursery.cancel_scope.cancel()
        await wait_no_failures(pool)
