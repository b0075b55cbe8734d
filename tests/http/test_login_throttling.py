"""Guessing passwords over HTTP: limits of a client, growing waits of an address, and nothing that tells of accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.postgres.pool import Pool
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
        await conn.execute("UPDATE throttles SET free_at = free_at - %(by)s", by)
        await conn.execute("UPDATE login_failures SET last_at = last_at - %(by)s", by)


@asynccontextmanager
async def no_time(pool: Pool) -> AsyncIterator[None]:
    """Take back the time that the block takes: on a busy machine, limits would fill up again meanwhile."""
    began = trio.current_time()
    yield
    await pass_time(pool, seconds=began - trio.current_time())


async def test_a_client_tries_an_address_five_times_a_minute(service: Service, pool: Pool) -> None:
    for _ in range(5):
        assert (await log_in(service, OWNER)).status_code == 401
    refused = await log_in(service, OWNER)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(refused.headers["Retry-After"]) <= 12
    assert (await log_in(service, OWNER, "bob@example.com")).status_code == 401
    assert (await log_in(service, "192.0.2.2")).status_code == 401
    await pass_time(pool, seconds=12)
    assert (await log_in(service, OWNER)).status_code == 401


async def test_a_client_tries_twenty_times_a_minute_whatever_the_addresses(
    service: Service, pool: Pool
) -> None:
    assert (await log_in(service, "2001:db8::1")).status_code == 401
    async with no_time(pool):
        for number in range(19):
            assert (await log_in(service, "2001:db8::1", f"a{number}@example.com")).status_code == 401
    refused = await log_in(service, "2001:db8::2", "b@example.com")
    assert (refused.status_code, refused.headers["RateLimit"].partition(";t=")[0]) == (429, '"login";r=0')


async def test_many_clients_that_guess_one_password_wait_and_its_owner_does_not(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    assert (await log_in(service, OWNER, password=PASSWORD)).status_code == 200
    for number in range(10):
        assert (await log_in(service, f"203.0.{number}.1")).status_code == 401
    refused = await log_in(service, "203.0.113.1", password=PASSWORD)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 25 <= int(refused.headers["Retry-After"]) <= 30
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
