"""What a person sees when there is no such page, a form is refused, or the fault is ours; programs get problems."""

from __future__ import annotations

import re
from http import HTTPStatus
from uuid import UUID

import pytest

from tests.services import Service

PAGE = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
OTHER_SITE = {**PAGE, "Sec-Fetch-Site": "cross-site"}


NO_ONE = UUID("3b4c6dbd-ce8d-41e5-8e77-c57498136453")  # the same in every process


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/signup/", 404),
        ("GET", "/account/profile", 405),
        ("PUT", "/login", 405),
        ("GET", f"/admin/users/{NO_ONE}/disable", 405),
    ],
)
async def test_a_browser_gets_a_page_and_a_program_a_problem(
    shared_service: Service, method: str, path: str, status: int
) -> None:
    page = await shared_service.client.request(method, path, headers=PAGE)
    assert page.status_code == status
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "There is no page at this address." in page.text
    problem = await shared_service.client.request(method, path)
    assert problem.status_code == status
    assert problem.json()["status"] == status
    assert problem.headers.get("Allow") == page.headers.get("Allow")


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/.well-known/nothing", "/static/nothing"])
async def test_what_is_no_page_is_none_to_a_browser_either(shared_service: Service, path: str) -> None:
    answer = await shared_service.client.get(path, headers=PAGE)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "back"),
    [
        ("/login", "/login"),
        ("/signup", "/signup"),
        ("/signup/code", "/signup/status"),
        ("/logout", None),
        ("/account/profile", "/account"),
        ("/account/sessions/end-all", "/account"),
        (f"/admin/users/{NO_ONE}/disable", "/admin/users"),
        (
            "/admin/mails/11111111-1111-4111-8111-111111111111/replay",
            "/admin/mails/11111111-1111-4111-8111-111111111111",
        ),
        ("/admin/children/mailer/restart", "/admin"),
    ],
)
async def test_the_page_of_a_refused_form_leads_back_to_the_page_that_it_is_on(
    shared_service: Service, path: str, back: str | None
) -> None:
    answer = await shared_service.client.post(path, data={"": ""}, headers=OTHER_SITE)
    assert answer.status_code == HTTPStatus.FORBIDDEN
    links = re.findall(r'<a href="([^"]*)"', answer.text)
    assert links == ([] if back is None else [back])
    for link in links:
        opened = await shared_service.client.get(link, headers=PAGE)
        assert opened.status_code != HTTPStatus.METHOD_NOT_ALLOWED


async def test_a_refused_log_in_has_a_challenge_as_every_401(shared_service: Service) -> None:
    answer = await shared_service.client.post(
        "/login", data={"email": "x", "password": "y"}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Bearer"),
        ({"Authorization": "Basic YTpi"}, "Bearer"),
        ({"Authorization": "Bearer x"}, 'Bearer error="invalid_token"'),
    ],
)
async def test_a_request_without_a_token_is_told_no_error(
    shared_service: Service, headers: dict[str, str], challenge: str
) -> None:
    """RFC 6750, section 3.1."""
    answer = await shared_service.client.get("/api/v1/me", headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, challenge)
