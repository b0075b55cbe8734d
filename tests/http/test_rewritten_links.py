"""Links as mail programs, scanners and people leave them."""

from __future__ import annotations

from http import HTTPStatus
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from regsvc.security.tokens import (
    Secrets,
    mint_account_token,
    mint_link_token,
    read_account_token,
    read_link_token,
)
from tests.services import SECRET, Service

PAGES = ("confirm", "not-me", "reset", "email-change", "email-undo", "panic")
SECRETS = Secrets(SECRET.encode())


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("mark", ["%23t=", "%2523t=", "?t=", "?token=", "?utm_source=x&t="])
async def test_a_token_that_lost_its_place_is_put_back_and_told_nobody(
    shared_service: Service, page: str, mark: str
) -> None:
    token = mint_link_token(SECRETS, uuid4(), "ann@example.com")
    with capture_logs() as lines:
        answer = await shared_service.client.get(f"/{page}{mark}{token}")
    assert (answer.status_code, answer.headers["Location"]) == (HTTPStatus.SEE_OTHER, f"/{page}#t={token}")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert token not in str(lines)


@pytest.mark.parametrize(
    ("written", "meant"), [("abc%3C/a%3E", "abc"), ("%3Cb%3E", None), ("", None), ("a%0d%0aX:y", "a")]
)
async def test_nothing_but_a_token_goes_into_the_address(
    shared_service: Service, written: str, meant: str | None
) -> None:
    answer = await shared_service.client.get(f"/confirm?t={written}")
    if written:
        assert answer.headers["Location"] == (f"/confirm#t={meant}" if meant else "/confirm#")
    else:
        assert answer.status_code == HTTPStatus.OK


def test_no_link_ends_in_what_linkifiers_leave_out_and_older_ones_still_work() -> None:
    ends = set()
    for _ in range(500):
        id_ = uuid4()
        link = mint_link_token(SECRETS, id_, "ann@example.com")
        account = mint_account_token(SECRETS, "reset", id_, "x")
        assert link[-1].isalnum()
        assert account[-1].isalnum()
        for token in (link, link[:-1]):
            read = read_link_token(token)
            assert read is not None
            assert read.proves(SECRETS, "ann@example.com")
        for token in (account, account[:-1]):
            claimed = read_account_token(token)
            assert claimed is not None
            assert claimed.proves(SECRETS, "reset", "x")
        assert read_link_token(link[:-2]) is None
        assert read_link_token(link + "x") is None
        assert read_link_token(link[:-1] + "y") is None
        ends.add(link[-2])
    assert ends & {"-", "_"}, "what stands before the end is any character"


async def test_a_compressed_body_is_415_and_says_what_is_taken(shared_service: Service) -> None:
    for coding in ("gzip", "br", "identity, deflate", "x-gzip"):
        for path, headers in (
            ("/api/v1/register", {"Content-Type": "application/json"}),
            (
                "/signup",
                {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"},
            ),
        ):
            answer = await shared_service.client.post(
                path, content=b"x", headers={"Content-Encoding": coding, **headers}
            )
            assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
            assert answer.headers["Accept-Encoding"] == "identity"


async def test_password_managers_are_led_to_where_a_password_is_changed(shared_service: Service) -> None:
    answer = await shared_service.client.get("/.well-known/change-password")
    assert (answer.status_code, answer.headers["Location"]) == (HTTPStatus.SEE_OTHER, "/account#password")
