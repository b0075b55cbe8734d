"""Forms in a browser that says little: plain HTTP on a name that is not loopback, where no Fetch Metadata is sent."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.programs import SharedProgram
from tests.services import PASSWORD
from tests.visits import Person, Visit

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)


def log_in(page: Page, person: Person) -> None:
    page.get_by_label("Email address").fill(person.address)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_people_sign_up_log_in_and_change_their_account(
    *, scripts: bool, lan_program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    here, person = visit(java_script_enabled=scripts), Person(lan_program)
    page = here.open(f"{lan_program.url}/signup")
    page.get_by_label("Name").fill("Ann")
    page.get_by_label("Email address").first.fill(person.address)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    page.get_by_label("Six-digit code").fill(person.mail().code)
    if scripts:  # the page sends six digits and logs in by itself, with a form
        page.wait_for_url("**/account")
    else:
        page.get_by_role("button", name="Confirm", exact=True).click()
        expect(page.get_by_role("heading", name="Your address is confirmed")).to_be_visible()
        page.goto(f"{lan_program.url}/login")
        log_in(page, person)
    page.get_by_label("Name").fill("Ann of the LAN")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Name")).to_have_value("Ann of the LAN")
    page.get_by_role("button", name="Log out", exact=True).click()
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    log_in(page, person)
    page.wait_for_url("**/account")

    posts = [request for request in here.requests if request.method == "POST"]
    assert posts
    assert not any("sec-fetch-site" in request.all_headers() for request in posts)
    answers = [request.response() for request in posts]
    assert {answer.status for answer in answers if answer is not None} <= {200, 201, 303}
