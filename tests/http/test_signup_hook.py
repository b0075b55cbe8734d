"""The operator's own service is asked about each sign-up: it refuses, adds data, fails, and holds nothing up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from standardwebhooks import Webhook

from regsvc.flows.signup import hook
from regsvc.flows.signup.hook import AT_ONCE
from regsvc.postgres.pool import Pool
from regsvc.webhooks.signature import mint_secret
from tests.http.administrators import log_in_admin
from tests.mail.providers import ProviderServer, stay_silent
from tests.polling import wait_until
from tests.services import PASSWORD, Service, run_test_service

pytestmark = pytest.mark.timeout(60)
KEY = mint_secret()
BODY = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}


def say(answer: object) -> tuple[int, dict[str, str], bytes]:
    """Return an answer of the hook."""
    return 200, {}, json.dumps(answer).encode()


@asynccontextmanager
async def hooked(
    database: str, folder: Path, server: ProviderServer, fail: str = "open", **settings: str
) -> AsyncIterator[Service]:
    """Run a service with a hook."""
    chosen = {
        "REGSVC_HOOK_BEFORE_SIGNUP": f"http://127.0.0.1:{server.port}/ask",
        "REGSVC_HOOK_BEFORE_SIGNUP_SECRET": KEY,
        "REGSVC_HOOK_BEFORE_SIGNUP_FAIL": fail,
        **settings,
    }
    async with run_test_service(database, folder, chosen) as service:
        yield service


async def test_each_sign_up_is_asked_about_alike(database: str, tmp_path: Path) -> None:
    async with ProviderServer("resend").running() as server, hooked(database, tmp_path, server) as service:
        await service.confirm()
        await service.sign_up()
        await service.sign_up("bob@example.com")
        await service.post("/register", BODY | {"email": "nonsense"})
        asked = [Webhook(KEY).verify(request.body, request.headers) for request in server.requests]
        assert [each["data"]["email"] for each in asked] == ["ann@example.com"] * 2 + ["bob@example.com"]
        assert asked[0] == asked[1]
        assert asked[0]["data"].keys() == {"email", "name", "locale", "network", "client", "method"}


async def test_a_refusal_is_told_in_its_own_plain_words(database: str, tmp_path: Path) -> None:
    answers = [say({"allow": False, "message": "Members\x07 only.\n" + "x" * 300}), say({"allow": False})]
    async with (
        ProviderServer("resend", answers).running() as server,
        hooked(database, tmp_path, server) as service,
    ):
        first, second = [await service.post("/register", BODY) for _ in range(2)]
        assert (first.status_code, first.json()["code"]) == (422, "signup_refused")
        assert first.json()["detail"].startswith("Members only.x")
        assert len(first.json()["detail"]) == 200
        assert second.json()["detail"] == "This service does not accept your sign-up."
        assert service.mails("ann@example.com") == []


async def test_what_the_hook_adds_goes_to_the_user_and_into_the_export(database: str, tmp_path: Path) -> None:
    answer = say({"allow": True, "app_data": {"plan": "free", "seats": 3}})
    async with (
        ProviderServer("resend", [answer]).running() as server,
        hooked(database, tmp_path, server) as service,
    ):
        await service.confirm()
        headers = await service.log_in()
        await service.prove(headers)
        exported = (await service.client.get("/api/v1/me/export", headers=headers)).json()
        assert exported["app_data"] == [{"app_data": {"plan": "free", "seats": 3}}]
        claims = jwt.decode(headers["Authorization"].split()[1], options={"verify_signature": False})
        assert claims["sub"]
        assert "free" not in str(claims)


async def test_an_invited_person_is_asked_about_too_and_administrators_see_what_is_added(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    answers = [
        say({"allow": True}),
        say({"allow": False, "message": "Not yet."}),
        say({"app_data": {"plan": 2}}),
    ]
    server = ProviderServer("resend", answers)
    async with server.running(), hooked(database, tmp_path, server) as service:
        admin = await log_in_admin(service, pool)
        await service.prove(admin)
        await service.post("/admin/invitations", {"email": "bob@example.com"}, admin)
        token = await service.wait_link("invite", "bob@example.com")
        body = {"token": token, "name": "Bob", "password": PASSWORD}
        refused = await service.post("/invitations/accept", body)
        assert (refused.status_code, refused.json()["detail"]) == (422, "Not yet.")
        assert (await service.post("/invitations/accept", body)).status_code == 200  # the link stayed good
        asked = json.loads(server.requests[-1].body)["data"]
        assert (asked["email"], asked["method"]) == ("bob@example.com", "invitation")
        listed = await service.client.get("/api/v1/admin/users?search=bob", headers=admin)
        assert [user["app_data"] for user in listed.json()["users"]] == [{"plan": 2}]


@pytest.mark.parametrize(
    "answer",
    [
        (500, {}, b""),
        (302, {"Location": "/elsewhere"}, b""),
        (200, {}, b"maybe"),
        (200, {}, b'{"allow": "no"}'),
        (200, {}, b'{"app_data": [1]}'),
        (200, {}, b'{"app_data": {"a": "' + b"x" * 4096 + b'"}}'),
        (200, {}, b'{"app_data": {"a": "\\u0000"}}'),
        (200, {}, b'{"app_data": {"a": "\\ud800"}}'),
        (200, {}, b'{"app_data": {"a": 1e999}}'),
        (200, {}, b'{"app_data": ' + b'{"a":' * 40_000),
    ],
    ids=["error", "redirect", "text", "word", "list", "long", "nul", "surrogate", "infinite", "deep"],
)
async def test_an_answer_that_says_nothing_counts_as_none(
    database: str, tmp_path: Path, answer: tuple[int, dict[str, str], bytes]
) -> None:
    async with (
        ProviderServer("resend", [answer]).running() as server,
        hooked(database, tmp_path, server, "closed") as service,
    ):
        refused = await service.post("/register", BODY)
        assert (refused.status_code, refused.json()["code"]) == (503, "signup_unavailable")
        assert int(refused.headers["Retry-After"]) > 0
        assert (await service.post("/register", BODY)).status_code == 201
        assert [request.path for request in server.requests] == ["/ask", "/ask"]


async def test_an_open_service_goes_on_without_its_hook_and_leaves_it_alone(
    database: str, tmp_path: Path
) -> None:
    async with ProviderServer("resend", [(500, {}, b"")] * 9).running() as server:
        async with hooked(database, tmp_path, server) as service:
            for number in range(8):
                await service.sign_up(f"ann{number}@example.com")
        assert len(server.requests) == 5


async def test_a_hook_that_does_not_answer_holds_nothing_up(database: str, tmp_path: Path) -> None:
    """Neither connections nor places to hash: others log in meanwhile, and more calls than may wait do not."""
    over = trio.Event()

    async def stay_silent(_: trio.SocketStream) -> None:
        await over.wait()

    async with (
        ProviderServer("resend", [say({"allow": True}), *[stay_silent] * 100]).running() as server,
        hooked(
            database, tmp_path, server, "closed", REGSVC_DATABASE_POOL_HTTP="1", REGSVC_HASHING_THREADS="1"
        ) as service,
        trio.open_nursery() as nursery,
    ):
        await service.confirm()
        answers: list[Any] = []

        async def sign_up(number: int) -> None:
            answers.append(await service.post("/register", BODY | {"email": f"bob{number}@example.com"}))

        for number in range(AT_ONCE):
            nursery.start_soon(sign_up, number)
        await wait_until(lambda: len(server.requests) == AT_ONCE + 1)
        headers = await service.log_in()
        assert (await service.client.get("/api/v1/me", headers=headers)).status_code == 200
        assert (await service.post("/register", BODY)).status_code == 503
        assert answers == []
        over.set()


@pytest.mark.parametrize(("fail", "status"), [("open", 201), ("closed", 503)])
async def test_a_hook_has_two_seconds(
    database: str, tmp_path: Path, fail: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hook.SECONDS == 2
    monkeypatch.setattr(hook, "SECONDS", 0.2)
    async with (
        ProviderServer("resend", [stay_silent]).running() as server,
        hooked(database, tmp_path, server, fail) as service,
    ):
        answer = await service.post("/register", BODY)
        assert answer.status_code == status
        assert ("Retry-After" in answer.headers) == (status == 503)
        assert len(server.requests) == 1


async def test_a_closed_service_refuses_without_asking_a_hook_that_failed_five_times_and_asks_again_later(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "_PAUSE", 1.0)
    async with (
        ProviderServer("resend", [(500, {}, b"")] * 5).running() as server,
        hooked(database, tmp_path, server, "closed") as service,
    ):
        answers = [await service.post("/register", BODY) for _ in range(6)]
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
        with trio.fail_after(20):
            while (await service.post("/register", BODY)).status_code == 503:
                pass
        assert len(server.requests) == 6


@pytest.mark.parametrize(("size", "taken"), [(4096, True), (4097, False)])
def test_app_data_has_at_most_four_kilobytes(size: int, *, taken: bool) -> None:
    body = b'{"app_data": {"a": "' + b"x" * (size - len('{"a": ""}')) + b'"}}'
    if taken:
        refusal, app_data = hook.read_answer(body)
        assert refusal is None
        assert len(json.dumps(app_data)) == size
    else:
        with pytest.raises(hook._FailedError):
            hook.read_answer(body)
