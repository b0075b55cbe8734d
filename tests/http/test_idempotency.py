"""A client that is not sure whether its request arrived sends it again, with the same `Idempotency-Key`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.postgres.pool import Pool
from tests.services import PASSWORD, Service, run_test_service

BODY = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}
KEY = {"Idempotency-Key": "9c1f3a5e-0001"}


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
    """What a client goes on with."""
    return (
        answer.status_code,
        answer.content,
        answer.headers["Location"],
        answer.headers["Regsvc-Handle"],
    )


async def test_a_sign_up_that_is_sent_again_is_answered_alike_and_made_once(
    service: Service, pool: Pool
) -> None:
    headers = KEY | {"Prefer": "return=representation"}
    first = await service.post("/register", BODY, headers)
    await service.wait_mail()
    again = await service.post("/register", BODY | {"unknown": "ignored"}, headers)
    assert first.status_code == 201
    assert told(again) == told(first)
    assert await count(pool, "registrations") == await count(pool, "mails") == 1
    shown = await service.client.get(
        again.headers["Location"], headers={"Regsvc-Handle": again.headers["Regsvc-Handle"]}
    )
    assert shown.json()["state"] == "sent"


async def test_fifty_at_once_make_one_registration(service: Service, pool: Pool) -> None:
    answers: list[httpx.Response] = []

    async def one() -> None:
        answers.append(await service.post("/register", BODY, KEY))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    taken = [answer for answer in answers if answer.status_code == 201]
    assert len({told(answer) for answer in taken}) == 1
    others = {(answer.status_code, answer.json()["code"]) for answer in answers if answer not in taken}
    assert others <= {(409, "request_in_flight")}
    assert await count(pool, "registrations") == 1


async def test_the_same_key_with_another_body_is_refused(service: Service, pool: Pool) -> None:
    await service.post("/register", BODY, KEY)
    for other in (BODY | {"name": "Bob"}, BODY | {"password": "another password"}):
        answer = await service.post("/register", other, KEY)
        assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert await count(pool, "registrations") == 1


async def test_a_key_is_of_one_client_and_one_call(service: Service, pool: Pool) -> None:
    here = await service.post("/register", BODY, KEY | {"X-Forwarded-For": "192.0.2.1"})
    elsewhere = await service.post("/register", BODY, KEY | {"X-Forwarded-For": "198.51.100.1"})
    neighbour = await service.post("/register", BODY, KEY | {"X-Forwarded-For": "192.0.2.2"})
    other = await service.post("/register", BODY | {"name": "Bob"}, KEY | {"X-Forwarded-For": "192.0.2.3"})
    answers = (here, elsewhere, neighbour, other)
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({told(answer) for answer in answers}) == 4
    resent = await service.post("/confirm-email/resend", {"email": "ann@example.com"}, KEY)
    assert resent.status_code == 202
    assert await count(pool, "registrations") == 4


async def test_a_mail_that_is_asked_for_again_with_one_key_is_booked_once(
    service: Service, pool: Pool
) -> None:
    body = {"email": "nobody@example.com"}
    first = await service.post("/confirm-email/resend", body, KEY)
    again = await service.post("/confirm-email/resend", body, KEY)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert await count(pool, "mails") == 1
    other = await service.post("/confirm-email/resend", {"email": "bob@example.com"}, KEY)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_request_that_was_refused_may_be_sent_again_with_its_key(
    database: str, tmp_path: Path, pool: Pool
) -> None:
    body = {"email": "ann@example.com"}
    async with run_test_service(database, tmp_path, {"REGSVC_RATE_LIMITS": "on"}) as service:
        assert (await service.post("/confirm-email/resend", body)).status_code == 202
        early = await service.post("/confirm-email/resend", body, KEY)
        assert (early.status_code, early.json()["code"]) == (429, "too_soon")
        async with pool.connection() as conn:
            by = {"by": timedelta(seconds=60)}
            await conn.execute("UPDATE mail_schedules SET last_at = last_at - %(by)s", by)
        for _ in range(2):  # the second time nothing is done, and the schedule is not asked
            assert (await service.post("/confirm-email/resend", body, KEY)).status_code == 202


async def test_what_is_no_key_is_refused(service: Service, pool: Pool) -> None:
    for key in (b"", b"a b", b"x" * 256, b"\xe9"):
        answer = await service.client.post("/api/v1/register", json=BODY, headers=[(b"Idempotency-Key", key)])
        assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")
        assert answer.json()["errors"][0]["pointer"] == "Idempotency-Key"
    assert await count(pool, "registrations") == 0


async def test_neither_key_nor_body_is_in_the_database(service: Service, pool: Pool) -> None:
    await service.post("/register", BODY, KEY)
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT i::text FROM idempotency_keys i")
        [(row,)] = await cursor.fetchall()
    for text in (*KEY.values(), *BODY.values()):
        assert text not in row
        assert text.encode().hex() not in row
