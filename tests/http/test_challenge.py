"""Proof of work before every call that mails or hashes: from one place, once for each solution, alike for all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from regsvc.flows.challenge import PURPOSES
from regsvc.flows.rate_limits import LOGIN_ADDRESS, MAIL_REQUEST, REGISTER
from regsvc.postgres.pool import Pool
from regsvc.selftest.caller import Caller, solve
from tests.services import PASSWORD, Service, run_test_service

OWN = {"Sec-Fetch-Site": "same-origin"}
ON = {"REGSVC_CHALLENGE": "on"}
AUTO = {"REGSVC_CHALLENGE": "auto", "REGSVC_RATE_LIMITS": "on"}
KNOWN = "ann@example.com"
BODY = {"email": KNOWN, "password": PASSWORD, "name": "Ann"}


@pytest.fixture
async def asking(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that always asks, where Ann has an account."""
    async with run_test_service(database, tmp_path) as service:
        await service.confirm(KNOWN)
    async with run_test_service(database, tmp_path, ON) as service:
        yield service


async def solve_first(
    service: Service, path: str, body: object, *, method: str = "POST", **headers: str
) -> httpx.Response:
    """Make a call, solve what it asks for, and make it again."""
    asked = await service.client.request(method, f"/api/v1{path}", json=body, headers=headers)
    assert (asked.status_code, asked.json()["code"]) == (428, "challenge_needed"), asked.text
    solution = {"Regsvc-Solution": solve(asked.json()["challenge"])}
    return await service.client.request(method, f"/api/v1{path}", json=body, headers=headers | solution)


def purpose_of(answer: httpx.Response) -> Any:
    return answer.json()["challenge"]["parameters"]["data"]["purpose"]


async def count(pool: Pool, *tables: str) -> list[int]:
    found = []
    async with pool.connection() as conn:
        for table in tables:
            cursor = await conn.execute(f"SELECT count(*) FROM {table}".encode())
            found.append(int((await cursor.fetchone() or [0])[0]))
    return found


async def test_every_call_that_mails_or_hashes_asks_first(asking: Service) -> None:
    signed_up = await solve_first(asking, "/register", BODY | {"email": "bob@example.com"})
    assert signed_up.status_code == 201
    handle = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    bob = (await asking.wait_mail("bob@example.com")).token
    logged_in = await solve_first(asking, "/login", {"email": KNOWN, "password": PASSWORD})
    ann = {"Authorization": f"Bearer {logged_in.json()['access_token']}"}
    asked: set[str] = set()

    async def ask(method: str, path: str, body: object, headers: dict[str, str] | None = None) -> None:
        answer = await asking.client.request(method, path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (428, "challenge_needed"), (path, answer.text)
        asked.add(purpose_of(answer))

    await ask("POST", "/api/v1/register", BODY)
    await ask("PATCH", signed_up.headers["Location"], {"email": "eve@example.com"}, handle)
    await ask("POST", "/api/v1/confirm-email/resend", {"email": KNOWN})
    await ask("POST", "/api/v1/password/forgot", {"email": KNOWN})
    await ask("POST", "/api/v1/login", {"email": KNOWN, "password": PASSWORD})
    await ask("POST", "/api/v1/confirm-email", {"token": bob, "password": PASSWORD})
    await ask("POST", "/api/v1/password/reset", {"token": "x", "password": PASSWORD})
    await ask("POST", "/api/v1/me/email", {"email": "a@example.org", "password": PASSWORD}, ann)
    changed = {"current_password": PASSWORD, "new_password": PASSWORD + "!"}
    await ask("PUT", "/api/v1/me/password", changed, ann)
    await ask("DELETE", "/api/v1/me", {"password": PASSWORD}, ann)
    await ask("POST", "/api/v1/me/email/undo", {"token": "x"})
    await ask("POST", "/api/v1/login/code", {"email": KNOWN})
    await ask("POST", "/api/v1/invitations/accept", {"token": "x", "name": "Ida", "password": PASSWORD})
    assert asked == set(PURPOSES)
    # What neither mails nor hashes goes on as ever.
    assert (await asking.post("/confirm-email", {"token": bob})).status_code == 200
    assert (await asking.client.get("/api/v1/me", headers=ann)).status_code == 200
    answer = await solve_first(asking, "/me", {"password": PASSWORD}, method="DELETE", **ann)
    assert answer.status_code == 204


async def test_who_asks_without_a_solution_learns_and_leaves_nothing(asking: Service, pool: Pool) -> None:
    tables = ("registrations", "mails", "throttles", "login_failures", "audit_events")
    before = await count(pool, *tables)
    for path, body in (("/register", BODY), ("/login", BODY), ("/password/forgot", {"email": KNOWN})):
        found = []
        for address in (KNOWN, "bob@example.com"):
            given = {name: text for name, text in body.items() if name != "name" or path == "/register"}
            answer = await asking.post(path, given | {"email": address})
            told = answer.json()
            assert told.pop("challenge")
            assert told.pop("request_id")
            found.append((answer.status_code, told))
        assert found[0] == found[1]
        assert found[0][0] == 428
    assert await count(pool, *tables) == before


async def test_a_solution_is_used_once_whatever_comes_at_the_same_moment(asking: Service) -> None:
    asked = await asking.post("/register", BODY)
    solution = {"Regsvc-Solution": solve(asked.json()["challenge"])}
    statuses: list[int] = []

    async def sign_up(number: int) -> None:
        body = BODY | {"email": f"{number}@example.com"}
        statuses.append((await asking.post("/register", body, solution)).status_code)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(sign_up, number)
    assert sorted(statuses) == [201] + [428] * 19


async def test_a_solution_of_another_call_is_asked_for_again(asking: Service) -> None:
    asked = await asking.post("/challenge", {"purpose": "resend"})
    solution = {"Regsvc-Solution": solve(asked.json()["challenge"])}
    refused = await asking.post("/login", {"email": KNOWN, "password": PASSWORD}, solution)
    assert refused.status_code == 428
    assert purpose_of(refused) == "login"
    taken = await asking.post("/confirm-email/resend", {"email": KNOWN}, solution)
    assert taken.status_code == 202


async def test_the_self_test_does_the_work_before_it_measures(asking: Service) -> None:
    def log_in() -> tuple[int, float]:
        with closing(Caller(asking.url)) as caller:
            reply = caller.call("POST", "/api/v1/login", {"email": KNOWN, "password": PASSWORD})
            return reply.status, reply.seconds

    began = trio.current_time()
    status, seconds = await trio.to_thread.run_sync(log_in)
    assert status == 200
    assert seconds < trio.current_time() - began


async def test_a_form_brings_its_solution_in_a_field(asking: Service) -> None:
    form = {"email": KNOWN, "password": PASSWORD}
    refused = await asking.client.post("/login", data=form, headers=OWN)
    assert refused.status_code == 428
    assert "JavaScript" in refused.text
    assert "This form needs JavaScript" in refused.text
    asked = await asking.post("/challenge", {"purpose": "login", "email": KNOWN})
    taken = await asking.client.post(
        "/login", data=form | {"altcha": solve(asked.json()["challenge"])}, headers=OWN
    )
    assert (taken.status_code, taken.headers["Location"]) == (303, "/account")
    for path in ("/signup", "/forgot"):
        assert "This form needs JavaScript" in (await asking.client.get(path)).text


@pytest.mark.parametrize("environ", [{}, {"REGSVC_CHALLENGE": "auto"}], ids=["off", "auto"])
async def test_where_nothing_is_due_nothing_is_asked(
    environ: dict[str, str], database: str, tmp_path: Path
) -> None:
    async with run_test_service(database, tmp_path, environ) as service:  # without limits
        for number in range(REGISTER.quota):
            await service.sign_up(f"{number}@example.com")
        assert (await service.post("/challenge", {"purpose": "register"})).json() == {"challenge": None}
        assert "This form needs JavaScript" not in (await service.client.get("/signup")).text


async def test_auto_asks_from_half_of_a_limit_on(database: str, tmp_path: Path) -> None:
    async with run_test_service(database, tmp_path, AUTO) as service:
        for number in range(REGISTER.quota // 2):
            body = BODY | {"email": f"{number}@example.com"}
            assert (await service.post("/challenge", {"purpose": "register"})).json()["challenge"] is None
            assert (await service.post("/register", body)).status_code == 201
        assert (await service.post("/challenge", {"purpose": "register"})).json()["challenge"]
        for number in range(REGISTER.quota // 2):  # as many more, each with its work
            body = BODY | {"email": f"more{number}@example.com"}
            solved = await solve_first(service, "/register", body)
            assert solved.status_code == 201
        # The others' limits are untouched: what is asked for is by the call.
        assert (await service.post("/confirm-email/resend", {"email": KNOWN})).status_code == 202


async def test_auto_counts_by_address_where_a_limit_does(database: str, tmp_path: Path) -> None:
    async with run_test_service(database, tmp_path, AUTO) as service:
        for _ in range(LOGIN_ADDRESS.quota // 2):
            wrong = await service.post("/login", {"email": KNOWN, "password": "wrong one"})
            assert wrong.status_code == 401
        for address, asked in ((KNOWN.upper(), True), ("bob@example.com", False)):
            offered = await service.post("/challenge", {"purpose": "login", "email": address})
            assert (offered.json()["challenge"] is not None) is asked
            answer = await service.post("/login", {"email": address, "password": "wrong one"})
            assert answer.status_code == (428 if asked else 401)


async def test_no_more_than_half_of_a_limit_passes_at_one_moment_without_work(
    database: str, tmp_path: Path
) -> None:
    statuses: list[int] = []
    async with run_test_service(database, tmp_path, AUTO) as service:

        async def ask(number: int) -> None:
            answer = await service.post("/confirm-email/resend", {"email": f"{number}@example.com"})
            statuses.append(answer.status_code)

        async with trio.open_nursery() as nursery:
            for number in range(MAIL_REQUEST.quota):
                nursery.start_soon(ask, number)
    assert set(statuses) == {202, 428}
    assert statuses.count(202) == MAIL_REQUEST.quota // 2


async def test_what_a_limit_refuses_is_told_to_wait_and_not_to_work(database: str, tmp_path: Path) -> None:
    async with run_test_service(database, tmp_path, AUTO) as service:
        for _ in range(LOGIN_ADDRESS.quota):
            offered = await service.post("/challenge", {"purpose": "login", "email": KNOWN})
            task = offered.json()["challenge"]
            solution = {"Regsvc-Solution": solve(task)} if task else {}
            await service.post("/login", {"email": KNOWN, "password": "wrong one"}, solution)
        answer = await service.post("/login", {"email": KNOWN, "password": "wrong one"})
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
