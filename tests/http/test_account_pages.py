"""Sessions of browsers and the forms of the account, as they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from regsvc.security.tokens import Secrets, SessionCookie, mint_session_cookie, read_session_cookie
from tests.services import PASSWORD, SECRET, Service, run_test_service

OWN = {"Sec-Fetch-Site": "same-origin"}
FORMS = [
    "/login",
    "/logout",
    "/forgot",
    "/account/profile",
    "/account/address",
    "/account/password",
    "/account/sessions/end",
    "/account/sessions/end-all",
    "/account/delete",
    "/account/security/totp",
    "/account/security/totp/confirm",
    "/account/security/totp/remove",
    "/account/security/recovery-codes",
]


async def log_in(service: Service, address: str, password: str = PASSWORD) -> httpx.Response:
    return await service.client.post("/login", data={"email": address, "password": password}, headers=OWN)


async def submit(service: Service, path: str, **form: str) -> httpx.Response:
    # A browser says that it is a form even where there is nothing in it; httpx does not.
    return await service.client.post(path, data=form or {"": ""}, headers=OWN)


@pytest.fixture
async def member(shared_service: Service) -> AsyncIterator[str]:
    """Somebody who is logged in with the client of the service."""
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address)
    answer = await log_in(shared_service, address)
    assert (answer.status_code, answer.headers["Location"]) == (HTTPStatus.SEE_OTHER, "/account")
    yield address
    shared_service.client.cookies.clear()


async def test_a_log_in_leaves_a_cookie_that_scripts_and_other_sites_do_not_get(
    shared_service: Service,
) -> None:
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address)
    answer = await log_in(shared_service, f" {address} ")
    cookie, *rules = answer.headers["Set-Cookie"].split("; ")
    assert cookie.startswith("regsvc-session=")
    assert {"HttpOnly", "Path=/", "SameSite=Strict"} <= set(rules)
    assert answer.headers["Cache-Control"] == "no-store"
    shared_service.client.cookies.clear()


async def test_over_tls_the_cookie_is_bound_to_the_host(database: str, tmp_path: Path) -> None:
    async with run_test_service(
        database, tmp_path, {"REGSVC_PUBLIC_URL": "https://accounts.example"}
    ) as service:
        await service.confirm()
        answer = await log_in(service, "ann@example.com")
    cookie, *rules = answer.headers["Set-Cookie"].split("; ")
    assert cookie.startswith("__Host-regsvc-session=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Strict"} <= set(rules)
    assert not any(rule.startswith("Domain") for rule in rules)


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {},
    ],
)
async def test_no_other_sites_form_is_taken(
    path: str, headers: dict[str, str], member: str, shared_service: Service
) -> None:
    answer = await shared_service.client.post(path, data={"password": PASSWORD}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (HTTPStatus.FORBIDDEN, "origin_not_allowed")
    assert (await shared_service.client.get("/account")).status_code == HTTPStatus.OK


@pytest.mark.parametrize("path", [path for path in FORMS if path.startswith("/account")])
async def test_without_a_session_every_form_leads_to_the_log_in(path: str, shared_service: Service) -> None:
    answer = await submit(shared_service, path, password=PASSWORD)
    assert (answer.status_code, answer.headers["Location"]) == (HTTPStatus.SEE_OTHER, "/login")


@pytest.mark.parametrize("path", [path for path in FORMS if path not in {"/login", "/forgot"}])
async def test_no_get_does_anything(path: str, member: str, shared_service: Service) -> None:
    assert (await shared_service.client.get(path)).status_code == HTTPStatus.METHOD_NOT_ALLOWED
    assert (await shared_service.client.get("/account")).status_code == HTTPStatus.OK


async def test_a_cookie_opens_no_call_of_the_api(member: str, shared_service: Service) -> None:
    for path in ("/api/v1/me", "/api/v1/sessions", "/api/v1/me/export"):
        assert (await shared_service.client.get(path)).status_code == HTTPStatus.UNAUTHORIZED


async def test_nobody_makes_a_cookie_without_the_secret() -> None:
    secrets, session = Secrets(SECRET.encode()), SessionCookie(uuid4(), 7)
    cookie = mint_session_cookie(secrets, session)
    assert read_session_cookie(secrets, cookie) == session
    assert read_session_cookie(Secrets(b"x" * 32, SECRET.encode()), cookie) == session  # after a rotation
    assert read_session_cookie(Secrets(b"x" * 32), cookie) is None
    other = mint_session_cookie(secrets, SessionCookie(UUID(int=session.session_id.int ^ 1), 7))
    later = mint_session_cookie(secrets, SessionCookie(session.session_id, 8))
    forged = [other[:24] + cookie[24:], later[:28] + cookie[28:], cookie[:-1], cookie + "A"]
    forged += ["", "x" * 64, "x" * 70, cookie + "=", str(session.session_id)]
    assert [read_session_cookie(secrets, each) for each in forged] == [None] * len(forged)


@pytest.mark.parametrize(
    ("path", "form"),
    [("/logout", {}), ("/account/sessions/end-all", {})],
)
async def test_a_session_that_was_ended_is_over_whoever_kept_its_cookie(
    path: str, form: dict[str, str], member: str, shared_service: Service
) -> None:
    kept = "; ".join(f"{name}={value}" for name, value in shared_service.client.cookies.items())
    answer = await submit(shared_service, path, **form)
    assert answer.headers["Location"] == "/login?done=logged_out"
    assert "regsvc-session" not in shared_service.client.cookies
    again = await shared_service.client.get("/account", headers={"Cookie": kept})
    assert (again.status_code, again.headers["Location"]) == (HTTPStatus.SEE_OTHER, "/login")


async def test_only_ones_own_sessions_can_be_ended(member: str, shared_service: Service) -> None:
    stranger = f"{uuid4()}@example.com"
    await shared_service.confirm(stranger)
    bearer = await shared_service.log_in(stranger)
    listed = (await shared_service.client.get("/api/v1/sessions", headers=bearer)).json()["sessions"]
    for session in (listed[0]["id"], "no", ""):
        answer = await submit(shared_service, "/account/sessions/end", session=session)
        assert answer.status_code == HTTPStatus.SEE_OTHER
    assert (await shared_service.client.get("/api/v1/me", headers=bearer)).status_code == HTTPStatus.OK


async def test_unknown_wrong_and_unconfirmed_look_alike(shared_service: Service) -> None:
    waiting, known = f"{uuid4()}@example.com", f"{uuid4()}@example.com"
    await shared_service.sign_up(waiting)
    await shared_service.confirm(known)
    pages = set()
    for address, password in (
        (waiting, PASSWORD),
        (known, "wrong password"),
        (f"{uuid4()}@example.com", PASSWORD),
    ):
        answer = await log_in(shared_service, address, password)
        assert answer.status_code == HTTPStatus.UNAUTHORIZED
        assert "Set-Cookie" not in answer.headers
        pages.add(answer.text.replace(address, ""))
    assert len(pages) == 1


@pytest.mark.parametrize("address", ["", "x", "a" * 400, "\x00@example.com", "<script>alert(1)</script>"])
async def test_an_address_that_is_none_is_no_account(address: str, shared_service: Service) -> None:
    answer = await log_in(shared_service, address)
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert "<script>alert" not in answer.text


async def test_asking_for_a_new_password_says_the_same_to_everybody(
    member: str, shared_service: Service
) -> None:
    stranger = f"{uuid4()}@example.com"
    pages = set()
    for address in (member, stranger):
        answer = await submit(shared_service, "/forgot", email=address)
        assert answer.status_code == HTTPStatus.OK
        pages.add(answer.text.replace(address, ""))
    assert len(pages) == 1


@pytest.mark.parametrize(
    ("path", "form", "told"),
    [
        ("profile", {"name": " ", "locale": "en"}, "control characters"),
        ("profile", {"name": "Ann", "locale": "tlh"}, "went wrong"),
        ("address", {"email": "x", "password": PASSWORD}, "Enter a valid email address"),
        ("address", {"email": "new@example.com", "password": "wrong"}, "not your current password"),
        (
            "password",
            {"current_password": "wrong", "new_password": "a new passphrase"},
            "not your current",
        ),
        ("password", {"current_password": PASSWORD, "new_password": "short"}, "at least 8"),
        ("delete", {"password": "wrong"}, "not your current password"),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_done(
    path: str, form: dict[str, str], told: str, member: str, shared_service: Service
) -> None:
    answer = await submit(shared_service, f"/account/{path}", **form)
    assert answer.status_code in {400, 403, 422}
    assert told in answer.text
    assert answer.text.count('role="alert"></p>') == 4  # the other parts have nothing to complain of
    assert PASSWORD not in answer.text
    shared_service.client.cookies.clear()
    assert (await log_in(shared_service, member)).status_code == HTTPStatus.SEE_OTHER


async def test_an_export_is_a_file(member: str, shared_service: Service) -> None:
    refused = await shared_service.client.get("/account/export")
    assert refused.headers["Location"] == "/account/proof?for=export"
    wrong = await submit(shared_service, "/account/proof?for=export", password="wrong")
    assert (wrong.status_code, "Location" in wrong.headers) == (HTTPStatus.FORBIDDEN, False)
    proved = await submit(shared_service, "/account/proof?for=export", password=PASSWORD)
    assert proved.headers["Location"] == "/account?done=export#delete"
    answer = await shared_service.client.get("/account/export")
    assert "attachment" in answer.headers["Content-Disposition"]
    assert answer.json()["profile"]["email"] == member
    shared_service.client.cookies.clear()
    assert (await shared_service.client.get("/account/export")).headers["Location"] == "/login"


async def test_the_account_is_kept_nowhere_and_loads_nothing_from_elsewhere(
    member: str, shared_service: Service
) -> None:
    answer = await shared_service.client.get("/account")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "form-action 'self'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
