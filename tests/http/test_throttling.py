"""How often a client may call what costs something, over HTTP."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from regsvc.flows.rate_limits import CONFIRM, LOGIN, MAIL_REQUEST, REGISTER, REGISTER_DAY, WIDE, widen
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets, mint_link_token
from tests.limits import use_up
from tests.services import PASSWORD, SECRET, Service, run_test_service

LIMITED = {"REGSVC_RATE_LIMITS": "on", "REGSVC_TRUSTED_PROXIES": "127.0.0.0/8"}
TOKEN = mint_link_token(Secrets(SECRET.encode()), uuid4(), "ann@example.com")


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that keeps its limits, behind a proxy on this machine: a test says which client it is."""
    async with run_test_service(database, tmp_path, LIMITED) as service:
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


def left(answer: httpx.Response) -> dict[str, int]:
    """What remains of each limit that an answer tells of."""
    found = re.findall(r'"([a-z-]+)";r=(\d+);t=\d+', answer.headers["RateLimit"])
    return {name: int(remaining) for name, remaining in found}


def check_refused(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_client_signs_twenty_people_up_a_minute(service: Service, pool: Pool) -> None:
    taken = await sign_up(service, "192.0.2.1")
    assert taken.status_code == 201
    assert taken.headers["RateLimit-Policy"] == '"register";q=20;w=60, "register-day";q=300;w=86400'
    assert taken.headers["RateLimit"] == '"register";r=19;t=3, "register-day";r=299;t=288'
    await use_up(pool, REGISTER, "192.0.2.1")
    check_refused(await sign_up(service, "192.0.2.1"))
    assert (await sign_up(service, "192.0.2.2")).status_code == 201


async def test_a_client_signs_three_hundred_people_up_a_day(service: Service, pool: Pool) -> None:
    await use_up(pool, REGISTER_DAY, "192.0.2.1")
    refused = await sign_up(service, "192.0.2.1")
    check_refused(refused)
    assert left(refused) == {"register": 20, "register-day": 0}


async def test_a_network_of_ipv6_is_one_client(service: Service, pool: Pool) -> None:
    """One subscriber has at least a /64 (RFC 6177): 2^64 addresses are no more than one of IPv4."""
    assert left(await sign_up(service, "2001:db8:0:1::1"))["register-day"] == 299
    assert left(await sign_up(service, "2001:db8:0:1:ffff::1"))["register-day"] == 298
    assert left(await sign_up(service, "2001:db8:0:2::1"))["register-day"] == 299
    await use_up(pool, CONFIRM, "2001:db8:0:1::/64")
    check_refused(await press(service, "2001:db8:0:1::2"))


async def test_an_address_of_ipv4_is_the_same_client_in_ipv6_notation(service: Service, pool: Pool) -> None:
    await use_up(pool, CONFIRM, "192.0.2.1")
    check_refused(await press(service, "::ffff:192.0.2.1"))


async def test_every_way_of_confirming_counts(service: Service, pool: Pool) -> None:
    signed_up = await sign_up(service, "192.0.2.1")
    known = come_from("192.0.2.1") | {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    ways: list[tuple[str, dict[str, str]]] = [
        ("/confirm-email", {"token": TOKEN}),
        ("/confirm-email/preview", {"token": TOKEN}),
        ("/confirm-email/repudiate", {"token": TOKEN}),
        (
            "/confirm-email/code",
            {"registration": signed_up.headers["Location"].rpartition("/")[2], "code": "no"},
        ),
        ("/password/reset", {"token": TOKEN, "password": PASSWORD}),
    ]
    for path, body in ways:
        answer = await service.post(path, body, known)
        assert answer.status_code == 400, path
        assert answer.headers["RateLimit-Policy"] == '"confirm";q=30;w=300', path
    await use_up(pool, CONFIRM, "192.0.2.1")
    for path, body in ways:
        check_refused(await service.post(path, body, known))


async def test_mending_addresses_counts_as_signing_up(service: Service, pool: Pool) -> None:
    signed_up = await sign_up(service, "192.0.2.1")
    known = come_from("192.0.2.1") | {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    path = signed_up.headers["Location"]
    mended = await service.client.patch(path, json={"email": "a@example.com"}, headers=known)
    assert (mended.status_code, left(mended)["register-day"]) == (202, 298)
    await use_up(pool, REGISTER, "192.0.2.1")
    check_refused(await service.client.patch(path, json={"email": "b@example.com"}, headers=known))


async def test_asking_for_mails_of_one_address_after_the_other_has_an_end(
    service: Service, pool: Pool
) -> None:
    for path in ("/confirm-email/resend", "/password/forgot"):
        answer = await service.post(path, {"email": "a@example.com"}, come_from("192.0.2.1"))
        assert (answer.status_code, answer.headers["RateLimit-Policy"]) == (202, '"mail-request";q=30;w=300')
    await use_up(pool, MAIL_REQUEST, "192.0.2.1")
    for path in ("/confirm-email/resend", "/password/forgot"):
        check_refused(await service.post(path, {"email": "b@example.com"}, come_from("192.0.2.1")))


async def test_what_costs_nothing_is_not_limited(service: Service) -> None:
    for path in ("/healthz", "/openapi.json", "/.well-known/jwks.json"):
        assert "RateLimit" not in (await service.client.get(path)).headers


async def test_a_request_that_is_wrong_before_it_costs_anything_is_not_counted(
    service: Service, pool: Pool
) -> None:
    await use_up(pool, REGISTER, "192.0.2.1")
    wrong = await service.post("/register", {"email": "x"}, come_from("192.0.2.1"))
    assert wrong.status_code == 400
    assert "RateLimit" not in wrong.headers


@pytest.mark.parametrize("environ", [{}, {"REGSVC_TRUSTED_PROXIES": "10.0.0.0/8"}], ids=["none", "another"])
async def test_who_is_no_trusted_proxy_does_not_choose_which_client_it_is(
    database: str, tmp_path: Path, pool: Pool, environ: dict[str, str]
) -> None:
    async with run_test_service(database, tmp_path, {"REGSVC_RATE_LIMITS": "on"} | environ) as service:
        assert (await press(service, "192.0.2.1")).status_code == 400
        await use_up(pool, CONFIRM, "127.0.0.1")
        check_refused(await press(service, "192.0.2.2"))


async def test_what_stands_left_of_an_untrusted_hop_is_not_believed(service: Service, pool: Pool) -> None:
    """A client may send an `X-Forwarded-For` of its own: the proxy appends, and the rightmost stranger counts."""
    await use_up(pool, CONFIRM, "192.0.2.1")
    check_refused(await press(service, "203.0.113.1, 192.0.2.1"))
    check_refused(await press(service, "203.0.113.1, 192.0.2.1, 127.0.0.2"))
    assert (await press(service, "192.0.2.1, 203.0.113.1")).status_code == 400


async def test_without_limits_nothing_is_counted(database: str, tmp_path: Path, pool: Pool) -> None:
    await use_up(pool, CONFIRM, "127.0.0.1")
    async with run_test_service(database, tmp_path, {"REGSVC_RATE_LIMITS": "off"}) as service:
        answer = await press(service, "192.0.2.1")
        assert answer.status_code == 400
        assert "RateLimit" not in answer.headers
    async with pool.connection() as conn:
        assert await (await conn.execute("SELECT count(*) FROM throttles")).fetchone() == (1,)


async def test_in_dev_this_machine_is_spared_and_others_are_not(
    database: str, tmp_path: Path, pool: Pool
) -> None:
    async with run_test_service(database, tmp_path, LIMITED, dev=True) as service:
        for client in ("127.0.0.1", "192.0.2.1"):
            await use_up(pool, CONFIRM, client)
        assert (await press(service, "127.0.0.1")).status_code == 400
        check_refused(await press(service, "192.0.2.1"))


async def test_processes_on_one_database_count_together(database: str, tmp_path: Path) -> None:
    async with (
        run_test_service(database, tmp_path, LIMITED) as one,
        run_test_service(database, tmp_path, LIMITED) as another,
    ):
        assert left(await sign_up(one, "192.0.2.1"))["register-day"] == 299
        assert left(await sign_up(another, "192.0.2.1"))["register-day"] == 298


async def test_pages_say_when_to_come_again_too(service: Service, pool: Pool) -> None:
    own = {"Sec-Fetch-Site": "same-origin", **come_from("192.0.2.1")}
    await service.confirm()
    person = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}

    async def submit(path: str, **form: str) -> httpx.Response:
        return await service.client.post(path, data={**person, **form}, headers=own)

    for path in ("/login", "/signup"):
        assert (await submit(path)).status_code == 303
    for limit in (LOGIN, REGISTER, MAIL_REQUEST, CONFIRM):
        await use_up(pool, limit, "192.0.2.1")
    for path in (
        "/login",
        "/forgot",
        "/signup",
        "/signup/resend",
        "/signup/code",
        "/signup/address",
        "/account/delete",
    ):
        answer = await submit(path, code="123456")
        assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (429, True), path
        assert answer.headers["Content-Type"].startswith("text/html"), path


async def test_who_was_refused_a_moment_ago_is_refused_without_asking_the_database(
    service: Service, pool: Pool
) -> None:
    await use_up(pool, CONFIRM, "192.0.2.1")
    check_refused(await press(service, "192.0.2.1"))
    async with pool.connection() as conn:
        await conn.execute("DELETE FROM throttles")
    again = await press(service, "192.0.2.1")
    check_refused(again)
    assert left(again) == {"confirm": 0}
    assert int(again.headers["Retry-After"]) > CONFIRM.seconds  # as long as it was used up for
    assert (await press(service, "192.0.2.2")).status_code == 400


async def test_a_48_of_ipv6_counts_as_eight_clients_and_no_more(service: Service, pool: Pool) -> None:
    """One customer may have all of its 65,536 networks."""
    assert widen(CONFIRM).quota == WIDE * CONFIRM.quota
    await use_up(pool, widen(CONFIRM), "2001:db8:1::/48")
    refused = await press(service, "2001:db8:1:ffff::1")
    check_refused(refused)
    assert left(refused) == {"confirm": CONFIRM.quota}  # its own /64 has used nothing
    assert (await press(service, "2001:db8:2::1")).status_code != 429
