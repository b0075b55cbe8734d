"""How often a client may call what costs something, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trio

from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets, mint_link_token
from tests.services import PASSWORD, SECRET, Service, run_test_service

TOKEN = mint_link_token(Secrets(SECRET.encode()), uuid4(), "ann@example.com")


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that keeps its limits, behind a proxy on this machine: a test says which client it is."""
    environ = {"REGSVC_RATE_LIMITS": "on", "REGSVC_TRUSTED_PROXIES": "127.0.0.0/8"}
    async with run_test_service(database, tmp_path, environ) as service:
        yield service


def come_from(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def sign_up(service: Service, client: str) -> httpx.Response:
    """Sign somebody else up each time."""
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD, "name": "Ann"}
    return await service.post("/register", body, come_from(client))


async def press(service: Service, client: str) -> httpx.Response:
    """Press the link of no registration."""
    return await service.post("/confirm-email", {"token": TOKEN}, come_from(client))


async def pass_time(pool: Pool, seconds: float) -> None:
    async with pool.connection() as conn:
        by = {"by": timedelta(seconds=seconds)}
        await conn.execute("UPDATE throttles SET free_at = free_at - %(by)s", by)


@asynccontextmanager
async def no_time(pool: Pool) -> AsyncIterator[None]:
    """Take back the time that the block takes: on a busy machine, limits would fill up again meanwhile."""
    began = trio.current_time()
    yield
    await pass_time(pool, seconds=began - trio.current_time())


async def test_a_client_signs_twenty_people_up_and_then_one_every_three_seconds(
    service: Service, pool: Pool
) -> None:
    taken = [await sign_up(service, "192.0.2.1")]
    async with no_time(pool):
        taken += [await sign_up(service, "192.0.2.1") for _ in range(19)]
    assert {answer.status_code for answer in taken} == {201}
    refused = await sign_up(service, "192.0.2.1")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert 1 <= int(refused.headers["Retry-After"]) <= 3
    assert (await sign_up(service, "192.0.2.2")).status_code == 201
    await pass_time(pool, 3)
    assert (await sign_up(service, "192.0.2.1")).status_code == 201


async def test_a_client_signs_three_hundred_people_up_a_day(service: Service, pool: Pool) -> None:
    await sign_up(service, "192.0.2.1")
    async with pool.connection() as conn:  # as if 298 more had come during the last hours
        await conn.execute(
            "UPDATE throttles SET free_at = now() + interval '24 hours' - 1.5 * interval '288 seconds' "
            "WHERE free_at > now() + interval '1 minute'"
        )
    last = await sign_up(service, "192.0.2.1")
    assert last.status_code == 201
    refused = await sign_up(service, "192.0.2.1")
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert 100 < int(refused.headers["Retry-After"]) <= 288


async def test_answers_say_how_a_client_stands(service: Service) -> None:
    first = await sign_up(service, "192.0.2.1")
    assert first.headers["RateLimit-Policy"] == '"register";q=20;w=60, "register-day";q=300;w=86400'
    assert first.headers["RateLimit"] == '"register";r=19;t=3, "register-day";r=299;t=288'
    wrong = await press(service, "192.0.2.1")
    assert (wrong.status_code, wrong.headers["RateLimit"]) == (400, '"confirm";r=29;t=10')
    assert "RateLimit" not in (await service.client.get("/healthz")).headers


async def test_a_network_of_ipv6_is_one_client(service: Service) -> None:
    """One subscriber has at least a /64 (RFC 6177): 2^64 addresses are no more than one of IPv4."""
    for number in range(30):
        assert (await press(service, f"2001:db8:0:1::{number:x}")).status_code == 400
    assert (await press(service, "2001:db8:0:1:ffff::1")).status_code == 429
    assert (await press(service, "2001:db8:0:2::1")).status_code == 400


async def test_an_address_of_ipv4_is_the_same_client_in_ipv6_notation(service: Service) -> None:
    for _ in range(30):
        await press(service, "192.0.2.1")
    assert (await press(service, "::ffff:192.0.2.1")).status_code == 429


async def test_a_client_has_thirty_tries_at_confirming_in_five_minutes_whatever_the_way(
    service: Service,
) -> None:
    signed_up = await sign_up(service, "192.0.2.1")
    known = come_from("192.0.2.1") | {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    by_code = {"registration": signed_up.headers["Location"].rpartition("/")[2], "code": "no"}
    for _ in range(10):
        await press(service, "192.0.2.1")
        await service.post("/confirm-email/repudiate", {"token": TOKEN}, known)
        await service.post("/confirm-email/code", by_code, known)
    for path, body in (("", {"token": TOKEN}), ("/repudiate", {"token": TOKEN}), ("/code", by_code)):
        answer = await service.post(f"/confirm-email{path}", body, known)
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")


async def test_mending_addresses_counts_as_signing_up(service: Service, pool: Pool) -> None:
    signed_up = await sign_up(service, "192.0.2.1")
    known = come_from("192.0.2.1") | {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    path = signed_up.headers["Location"]
    async with no_time(pool):
        for number in range(19):
            answer = await service.client.patch(path, json={"email": f"a{number}@example.com"}, headers=known)
            assert answer.status_code == 202
    answer = await service.client.patch(path, json={"email": "a@example.com"}, headers=known)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert (await sign_up(service, "192.0.2.1")).status_code == 429


async def test_asking_for_mails_of_one_address_after_the_other_has_an_end(service: Service) -> None:
    for number in range(30):
        answer = await service.post("/confirm-email/resend", {"email": f"a{number}@example.com"})
        assert answer.status_code == 202
    answer = await service.post("/confirm-email/resend", {"email": "a@example.com"})
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")


async def test_a_request_that_is_wrong_before_it_costs_anything_is_not_counted(service: Service) -> None:
    for _ in range(25):
        answer = await service.post("/register", {"email": "x"}, come_from("192.0.2.1"))
        assert answer.status_code == 400
    assert (await sign_up(service, "192.0.2.1")).status_code == 201


@pytest.mark.parametrize("environ", [{}, {"REGSVC_TRUSTED_PROXIES": "10.0.0.0/8"}], ids=["none", "another"])
async def test_who_is_no_trusted_proxy_does_not_choose_which_client_it_is(
    database: str, tmp_path: Path, environ: dict[str, str]
) -> None:
    async with run_test_service(database, tmp_path, {"REGSVC_RATE_LIMITS": "on"} | environ) as service:
        for number in range(30):
            await press(service, f"192.0.2.{number}")
        assert (await press(service, "192.0.2.99")).status_code == 429


async def test_what_stands_left_of_an_untrusted_hop_is_not_believed(service: Service) -> None:
    """A client may send an `X-Forwarded-For` of its own: the proxy appends, and the rightmost stranger counts."""
    for number in range(30):
        await press(service, f"203.0.113.{number}, 192.0.2.1")
    assert (await press(service, "192.0.2.1")).status_code == 429
    assert (await press(service, "203.0.113.1")).status_code == 400


async def test_without_limits_nothing_is_counted(database: str, tmp_path: Path, pool: Pool) -> None:
    async with run_test_service(database, tmp_path, {"REGSVC_RATE_LIMITS": "off"}) as service:
        for _ in range(31):
            answer = await press(service, "192.0.2.1")
            assert answer.status_code == 400
        assert "RateLimit" not in answer.headers
    async with pool.connection() as conn:
        assert await (await conn.execute("SELECT count(*) FROM throttles")).fetchone() == (0,)
