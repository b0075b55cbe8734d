"""Many do the same at once: one thing comes of it, and everybody is answered."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
import trio

from regsvc.postgres.connection import Connection
from tests.services import PASSWORD, Service

PATIENCE = 180.0  # seconds for the last of a crowd


@pytest.fixture
async def service(shared_service: Service) -> AsyncIterator[Service]:
    """The shared service, and a client that opens as many connections as it is asked to."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=shared_service.url, timeout=PATIENCE, limits=limits) as client:
        yield replace(shared_service, client=client)


async def at_once(count: int, call: Callable[[], Awaitable[httpx.Response]]) -> list[httpx.Response]:
    """Make a call so many times at once; whoever is told to come again does."""
    answers: list[httpx.Response] = []

    async def one() -> None:
        with trio.fail_after(PATIENCE):
            # A busy machine may send some of a crowd away.
            while (answer := await call()).status_code == 503:  # noqa: ASYNC110 - the answer says how long
                await trio.sleep(float(answer.headers["Retry-After"]))
        answers.append(answer)

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return answers


async def count(service: Service, statement: str, *values: object) -> int:
    async with await Connection.connect(service.settings.database_url.get_secret_value()) as conn:
        row = await (await conn.execute(statement.encode(), values)).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.timeout(300)
async def test_200_sign_ups_of_one_address_at_once_are_all_taken_and_one_account_comes_of_them(
    service: Service,
) -> None:
    address = f"{uuid4()}@example.com"
    names = itertools.count()  # each a person of their own; of the same one, two presses are one sign-up

    def sign_up() -> Awaitable[httpx.Response]:
        body = {"email": address, "password": PASSWORD, "name": f"Ann {next(names)}"}
        return service.post("/register", body)

    answers = await at_once(200, sign_up)
    assert Counter(answer.status_code for answer in answers) == {201: 200}
    assert len({answer.headers["Location"] for answer in answers}) == 200
    mail = await service.wait_mail(address)
    pressed = {"token": mail.token, "password": PASSWORD}
    confirmed = await at_once(8, lambda: service.post("/confirm-email", pressed))
    assert Counter(answer.status_code for answer in confirmed) == {200: 8}
    assert await count(service, "SELECT count(*) FROM users WHERE email_key = %s", address) == 1


async def test_50_refreshes_with_one_token_at_once_bring_one_child_and_log_nobody_out(
    service: Service,
) -> None:
    address = f"{uuid4()}@example.com"
    await service.confirm(address)
    tokens = (await service.post("/login", {"email": address, "password": PASSWORD})).json()
    used = {"refresh_token": tokens["refresh_token"]}
    answers: list[httpx.Response] = []

    async def one() -> None:
        answers.append(await service.post("/token/refresh", used))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(one)
    # On a busy machine some are sent away, and would come again after the grace, as a thief would.
    assert {answer.status_code for answer in answers} <= {200, 503}
    answers = [answer for answer in answers if answer.status_code == 200]
    assert len(answers) >= 25
    (child,) = {answer.json()["refresh_token"] for answer in answers}
    for access in (tokens["access_token"], *(answer.json()["access_token"] for answer in answers[:5])):
        headers = {"Authorization": f"Bearer {access}"}
        assert (await service.client.get("/api/v1/me", headers=headers)).status_code == 200
    assert (await service.post("/token/refresh", {"refresh_token": child})).status_code == 200


async def test_programs_that_look_at_every_link_in_a_mail_spend_none(service: Service) -> None:
    """Fifty GET and HEAD of each, then fifty presses at once: one transition, and all are told so."""
    address = f"{uuid4()}@example.com"
    signed_up = await service.sign_up(address)
    mail = await service.wait_mail(address)
    html = mail.message.get_body(("html",))
    assert html is not None
    urls = set(re.findall(r"https?://[^\s\"'<>]+", mail.text + html.get_content()))
    assert sum(mail.token in url for url in urls) >= 2
    # A browser keeps the fragment to itself, a careless program may send it as a query.
    own = {url.replace(service.settings.public_url, "") for url in urls}
    own |= {path.replace("#", "?") for path in own} | {f"/api/v1/confirm-email?token={mail.token}"}
    for path in own:
        for method in ("GET", "HEAD") * 25:
            answer = await service.client.request(method, path)
            assert answer.status_code in {200, 303}, path
            assert "Set-Cookie" not in answer.headers
    before = await show(service, signed_up)
    assert before["state"] == "sent"
    pressed = await at_once(50, lambda: service.post("/confirm-email", {"token": mail.token}))
    assert Counter(answer.status_code for answer in pressed) == {200: 50}
    after = await show(service, signed_up)
    assert (after["state"], after["seq"]) == ("confirmed", before["seq"] + 1)


async def show(service: Service, signed_up: httpx.Response) -> dict[str, Any]:
    """Return what the handle shows of a registration."""
    headers = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    answer = await service.client.get(signed_up.headers["Location"], headers=headers)
    shown: dict[str, Any] = answer.json()
    return shown
