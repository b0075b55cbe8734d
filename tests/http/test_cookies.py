"""Cookies as browsers send them, those of sibling domains in between."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from uuid import uuid4

import pytest

from regsvc.http.request.cookies import read_cookies
from tests.services import PASSWORD, Service, run_test_service

OWN = {"Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize(
    "header",
    [
        "own=1",
        'a="b; own=1; zz=c"',
        'a="b\\"; own=1; zz=c"',
        "; ;own=1;",
        "a; =; own = 1 ; own2=3; OWN=4; xown=5",
        'own=1; a={"b": 1}',
    ],
)
def test_a_cookie_is_found_whatever_stands_around_it(header: str) -> None:
    assert list(read_cookies([header], "own")) == ["1"]


def test_values_are_taken_as_they_are() -> None:
    assert list(read_cookies(['own="1"; own=a=b', "own="], "own")) == ['"1"', "a=b", ""]


@pytest.mark.parametrize(
    "around", ['a="b; {own}; zz=c"', "regsvc-session=x; {own}", "{own}; regsvc-session=x"]
)
async def test_no_cookie_of_a_sibling_domain_locks_anybody_out(shared_service: Service, around: str) -> None:
    """Their names may be ours where no prefix protects them: the one that was made here counts."""
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address)
    client = shared_service.client
    form = {"email": address, "password": PASSWORD}
    answer = await client.post("/login", data=form, headers=OWN)
    client.cookies.clear()
    own = answer.headers["Set-Cookie"].partition(";")[0]
    page = await client.get("/account", headers={"Cookie": around.format(own=own)})
    assert page.status_code == HTTPStatus.OK
    assert address in page.text


async def test_a_browser_that_keeps_no_cookie_is_told_so_instead_of_being_led_in_circles(
    shared_service: Service,
) -> None:
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address)
    client = shared_service.client
    for path, form in (
        ("/login", {"email": address, "password": PASSWORD}),
        ("/signup", {"email": f"{uuid4()}@example.com", "password": PASSWORD, "name": "Ann"}),
    ):
        led = await client.post(path, data=form, headers=OWN)
        client.cookies.clear()
        where = led.headers["Location"]
        # A browser that is redirected still names the page that the form was on.
        page = await client.get(where, headers={"Referer": f"{shared_service.url}{path}"})
        assert page.status_code == HTTPStatus.BAD_REQUEST, (path, where)
        assert "cookie" in page.text
        assert (await client.get(where)).status_code == HTTPStatus.SEE_OTHER


async def test_a_session_that_no_account_belongs_to_is_forgotten(shared_service: Service) -> None:
    """Else the login page would lead to the account, and the account to the login page."""
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address)
    client = shared_service.client
    await client.post("/login", data={"email": address, "password": PASSWORD}, headers=OWN)
    answer = await client.post("/account/delete", data={"password": PASSWORD}, headers=OWN)
    assert "regsvc-session=;" in answer.headers["Set-Cookie"]
    client.cookies.clear()


@pytest.mark.parametrize(
    ("public_url", "origin", "taken"),
    [
        ("https://accounts.example", "https://accounts.example", True),
        ("https://accounts.example", "http://accounts.example", False),
        ("https://accounts.example", "null", False),
        ("http://accounts.example", "http://accounts.example", True),
        ("http://accounts.example", "http://192.168.1.7", False),
    ],
)
async def test_without_fetch_metadata_a_forms_origin_has_to_be_ours(
    database: str, tmp_path: Path, public_url: str, origin: str, *, taken: bool
) -> None:
    """Behind TLS, plain HTTP of the same name is anybody on the way."""
    async with run_test_service(database, tmp_path, {"REGSVC_PUBLIC_URL": public_url}) as service:
        answer = await service.client.post(
            "/login",
            data={"email": "ann@example.com", "password": PASSWORD},
            headers={"Origin": origin, "Host": "accounts.example"},
        )
    assert answer.status_code == (HTTPStatus.UNAUTHORIZED if taken else HTTPStatus.FORBIDDEN)


async def test_over_plain_http_a_cookie_is_one_that_browsers_keep(database: str, tmp_path: Path) -> None:
    async with run_test_service(database, tmp_path, {"REGSVC_PUBLIC_URL": "http://accounts.test"}) as service:
        await service.confirm()
        form = {"email": "ann@example.com", "password": PASSWORD}
        answer = await service.client.post("/login", data=form, headers=OWN)
    cookie, *rules = answer.headers["Set-Cookie"].split("; ")
    assert cookie.startswith("regsvc-session=")
    assert "Secure" not in rules
