"""The forms of the sign-up as they are sent: whose they may be, and what a browser is told to keep."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.services import PASSWORD, Service, run_test_service

OWN = {"Sec-Fetch-Site": "same-origin"}


def make_form(**changes: str) -> dict[str, str]:
    return {"name": "Ann", "email": f"{uuid4()}@example.com", "password": PASSWORD, **changes}


async def submit(service: Service, path: str, form: dict[str, str], **headers: str) -> httpx.Response:
    return await service.client.post(path, data=form, headers=headers or OWN)


async def test_a_sign_up_leaves_a_cookie_that_scripts_and_other_sites_do_not_get(
    shared_service: Service,
) -> None:
    answer = await submit(shared_service, "/signup", make_form())
    assert (answer.status_code, answer.headers["Location"]) == (HTTPStatus.SEE_OTHER, "/signup/status")
    assert answer.headers["Cache-Control"] == "no-store"
    cookie, *rules = answer.headers["Set-Cookie"].split("; ")
    assert cookie.startswith("regsvc-signup=")
    assert set(rules) == {
        "HttpOnly",
        "Path=/",
        "SameSite=Strict",
    }  # plain HTTP on loopback has no TLS to ask for


@pytest.mark.parametrize("path", ["/signup", "/signup/code", "/signup/resend", "/signup/address"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "{own}"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"X-Any": "thing"},
    ],
)
async def test_no_other_sites_form_is_taken(
    path: str, headers: dict[str, str], shared_service: Service
) -> None:
    sent = {name: value.format(own=shared_service.url) for name, value in headers.items()}
    answer = await submit(shared_service, path, make_form(), **sent)
    assert (answer.status_code, answer.json()["code"]) == (HTTPStatus.FORBIDDEN, "origin_not_allowed")
    assert "Set-Cookie" not in answer.headers


async def test_a_browser_from_before_fetch_metadata_is_known_by_its_origin(shared_service: Service) -> None:
    answer = await submit(shared_service, "/signup", make_form(), Origin=shared_service.url)
    assert answer.status_code == HTTPStatus.SEE_OTHER


async def test_a_person_is_told_of_a_problem_in_a_page(shared_service: Service) -> None:
    answer = await submit(shared_service, "/signup", make_form(), Accept="text/html", Origin="null")
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "another site" in answer.text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"email": ""}, "Enter your email address."),
        ({"email": "ann"}, "Enter a valid email address"),
        ({"name": " "}, "Enter your name."),
        ({"name": "a" * 201}, "at most 200"),
        ({"name": "a\x00b"}, "control characters"),
        ({"password": ""}, "Choose a password."),
        ({"password": "short"}, "at least 8"),
        ({"password": "x" * 129}, "at most 128"),
        ({"password": "x" * 5000}, "at most 128"),
    ],
)
async def test_what_is_wrong_with_a_field_is_said_beside_it(
    changes: dict[str, str], told: str, shared_service: Service
) -> None:
    form = make_form(**changes)
    answer = await submit(shared_service, "/signup", form)
    assert answer.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert told in answer.text
    assert answer.text.count('aria-invalid="true"') == 1
    assert PASSWORD not in answer.text
    checked = await shared_service.client.post("/signup/check", json=form, headers=OWN)
    (fault,) = checked.json()["faults"].values()
    assert told in fault


async def test_a_password_made_of_the_persons_own_words_is_weak(shared_service: Service) -> None:
    async def rate(**typed: str) -> int:
        answer = await shared_service.client.post("/signup/check", json=typed, headers=OWN)
        strength: int = answer.json()["strength"]
        return strength

    password = "wilhelmina.featherstone"
    alone = await rate(password=password)
    assert await rate(password=password, email=f"{password}@example.com", name="Wilhelmina") < alone


async def test_the_check_says_nothing_of_a_password_that_is_not_there(shared_service: Service) -> None:
    answer = await shared_service.client.post("/signup/check", json={}, headers=OWN)
    assert answer.json()["strength"] is None
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_status_without_a_sign_up_leads_to_the_form(shared_service: Service) -> None:
    for cookie in ("", "x", f"{uuid4()}.{'A' * 43}", "regsvc-signup=" * 300):
        answer = await shared_service.client.get(
            "/signup/status", headers={"Cookie": f"regsvc-signup={cookie}"}
        )
        assert (answer.status_code, answer.headers["Location"]) == (HTTPStatus.SEE_OTHER, "/signup")


async def test_a_form_that_is_none_is_refused(shared_service: Service) -> None:
    answer = await shared_service.client.post("/signup", json=make_form(), headers=OWN)
    assert answer.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE


async def test_pages_speak_english_to_whoever_speaks_nothing_that_we_do(shared_service: Service) -> None:
    for wish in ("tlh", "*", "", "x" * 2000, "en;q=abc", "../../etc"):
        answer = await shared_service.client.get("/signup", headers={"Accept-Language": wish})
        assert (answer.status_code, answer.headers["Content-Language"]) == (HTTPStatus.OK, "en")


async def test_the_check_is_asked_no_faster_than_somebody_types(database: str, tmp_path: Path) -> None:
    """Each answer costs a rating; a client that sends more than people can type is told to wait."""
    environ = {"REGSVC_RATE_LIMITS": "on"}
    async with run_test_service(database, tmp_path, environ) as service:
        taken = -1
        answer = httpx.Response(HTTPStatus.OK)
        while answer.status_code == HTTPStatus.OK and taken < 600:  # some come back meanwhile
            answer = await service.client.post("/signup/check", json={}, headers=OWN)
            taken += 1
    assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert taken >= 120
    assert int(answer.headers["Retry-After"]) > 0
