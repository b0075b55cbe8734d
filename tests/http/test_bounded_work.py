"""What a stranger sends is bounded before it is worked on."""

from __future__ import annotations

import time
import unicodedata

import pytest

from regsvc.security.password_rules import LONGEST, check_password
from regsvc.security.passwords import fold, normalize
from tests.http.serving import serving
from tests.services import PASSWORD, Service

OWN = {"Sec-Fetch-Site": "same-origin"}
MARKS = (
    "a" + "\u0323\u0307" * 2000
)  # their order has to be mended, which takes time that grows with their square


async def test_a_form_of_thousands_of_fields_is_refused(shared_service: Service) -> None:
    fields = "&".join(f"f{number}=x" for number in range(1000))
    answer = await shared_service.client.post(
        "/login",
        content=f"email=x&password=y&{fields}",
        headers={"Content-Type": "application/x-www-form-urlencoded", **OWN},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")


async def test_of_two_fields_of_one_name_the_first_counts(shared_service: Service) -> None:
    answer = await shared_service.client.post(
        "/login",
        content="email=first%40example.com&email=latter-one&password=%C3%A9+x&password=",
        headers={"Content-Type": "application/x-www-form-urlencoded", **OWN},
    )
    assert 'value="first@example.com"' in answer.text
    assert "latter-one" not in answer.text


async def test_a_query_of_thousands_of_parameters_is_refused() -> None:
    async with serving() as served:
        assert (await served.ask(f"GET /?{'a&' * 1000} HTTP/1.1")).status == 400
        assert (await served.ask(f"GET /?{'a&' * 50} HTTP/1.1")).status == 200


def test_marks_by_the_thousand_are_not_put_in_order() -> None:
    started = time.process_time()
    unicodedata.normalize("NFC", MARKS)
    long = time.process_time() - started
    started = time.process_time()
    found = check_password("basic", MARKS, email=MARKS, name=MARKS)
    normalize(MARKS)
    fold(MARKS)
    short = time.process_time() - started
    assert "too_long" in {weakness.code for weakness in found}
    assert short < long


def test_every_password_that_can_be_taken_is_still_one_however_it_is_written() -> None:
    """One character may be four code points."""
    composed = "\u1f82" * LONGEST
    written = unicodedata.normalize("NFD", composed)
    assert len(written) == 4 * LONGEST
    assert normalize(written) == composed
    assert check_password("basic", written, email="ann@example.com", name="Ann") == []


@pytest.mark.parametrize("field", ["name", "email", "password"])
async def test_a_sign_up_form_with_a_field_of_marks_is_answered(shared_service: Service, field: str) -> None:
    form = {"name": "Ann", "email": "ann@example.com", "password": PASSWORD, field: MARKS}
    answer = await shared_service.client.post("/signup", data=form, headers=OWN)
    assert answer.status_code in {413, 422}
    answer = await shared_service.client.post("/signup/check", json=form, headers=OWN)
    assert answer.status_code in {200, 413}
