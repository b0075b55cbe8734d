"""A button that an impatient person presses twice makes one sign-up, and one mail whose link confirms alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.postgres.pool import Pool
from tests.services import PASSWORD, Service, run_test_service

BODY = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service behind a proxy on this machine: a test says which client it is."""
    async with run_test_service(database, tmp_path, {"REGSVC_TRUSTED_PROXIES": "127.0.0.0/8"}) as service:
        yield service


async def count(pool: Pool, table: str) -> int:
    async with pool.connection() as conn:
        [(number,)] = await (await conn.execute(f"SELECT count(*) FROM {table}".encode())).fetchall()
        return int(number)


def told(answer: httpx.Response) -> tuple[int, bytes, str, str]:
    return answer.status_code, answer.content, answer.headers["Location"], answer.headers["Regsvc-Handle"]


async def test_the_same_sign_ups_at_once_are_one_with_one_handle(service: Service, pool: Pool) -> None:
    answers: list[httpx.Response] = []

    async def press() -> None:
        answers.append(await service.post("/register", BODY))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(press)
    assert len({told(answer) for answer in answers}) == 1
    assert answers[0].status_code == 201
    assert await count(pool, "registrations") == await count(pool, "mails") == 1
    mail = await service.wait_mail()
    assert (await service.post("/confirm-email", {"token": mail.token})).status_code == 200
    await service.log_in()


async def test_the_form_without_scripts_pressed_twice_is_one_sign_up(service: Service, pool: Pool) -> None:
    cookies = set()
    for _ in range(2):
        answer = await service.client.post("/signup", data=BODY, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 303, answer.text
        cookies.add(answer.headers["Set-Cookie"])
        service.client.cookies.clear()
    assert len(cookies) == 1
    assert await count(pool, "registrations") == await count(pool, "mails") == 1


OTHERS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "password": ({"password": "another good password"}, {}),
    "name": ({"name": "Bea"}, {}),
    "address": ({"email": "bea@example.com"}, {}),
    "network": ({}, {"X-Forwarded-For": "192.0.2.8"}),
    "software": ({}, {"User-Agent": FIREFOX}),
    "key": ({}, {"Idempotency-Key": "of-its-own"}),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
async def test_a_sign_up_with_anything_else_is_an_attempt_of_its_own(
    service: Service, pool: Pool, other: tuple[dict[str, str], dict[str, str]]
) -> None:
    here = {"X-Forwarded-For": "192.0.2.7"}
    first = await service.post("/register", BODY, here)
    second = await service.post("/register", BODY | other[0], here | other[1])
    assert first.status_code == second.status_code == 201
    assert first.headers["Location"] != second.headers["Location"]
    assert await count(pool, "registrations") == 2


async def test_the_same_sign_up_later_is_an_attempt_of_its_own(service: Service, pool: Pool) -> None:
    first = await service.post("/register", BODY)
    async with pool.connection() as conn:
        await conn.execute("UPDATE idempotency_keys SET created_at = created_at - interval '10 seconds'")
    for _ in range(2):
        second = await service.post("/register", BODY)
        assert second.headers["Location"] != first.headers["Location"]
    assert await count(pool, "registrations") == 2


async def test_a_sign_up_whose_first_is_over_is_an_attempt_of_its_own(service: Service, pool: Pool) -> None:
    first = await service.post("/register", BODY)
    token = (await service.wait_mail()).token
    assert (await service.post("/confirm-email/repudiate", {"token": token})).status_code == 200
    for _ in range(2):
        second = await service.post("/register", BODY)
        assert second.headers["Location"] != first.headers["Location"]
    assert await count(pool, "registrations") == 2
