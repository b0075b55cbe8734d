"""Logging in, and all that somebody can do with their account, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.services import PASSWORD
from tests.visits import PHONE, Person, Visit, find_barriers, weigh

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

ACCOUNT = "Your account"
NEW = "another correct horse"


def log_in(here: Visit, person: Person, password: str = PASSWORD) -> Page:
    page = here.open(f"{person.program.url}/login")
    page.get_by_label("Email address").fill(person.address)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    return page


def open_link(person: Person, page: Page, path: str, *, number: int) -> None:
    """Open the link of a person's newest mail, once there are so many."""
    found = re.search(rf"^\S+/{path}#t=\S+$", person.mail(number=number).text, re.MULTILINE)
    assert found
    page.goto(found[0])
    assert page.url == f"{person.program.url}/{path}"


@pytest.mark.parametrize("scripts", [True, False])
def test_somebody_logs_in_and_out(scripts: bool, person: Person, visit: Callable[..., Visit]) -> None:  # noqa: FBT001 - a parameter of pytest's
    person.join()
    here = visit(java_script_enabled=scripts)
    page = log_in(here, person, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("Wrong email address or password")
    expect(page.get_by_label("Email address")).to_have_value(person.address)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=ACCOUNT)).to_be_visible()
    page.goto(f"{person.program.url}/login")
    expect(page.get_by_role("heading", name=ACCOUNT)).to_be_visible()
    page.get_by_role("button", name="Log out").first.click()
    expect(page.get_by_role("status")).to_have_text("You are logged out.")
    page.goto(f"{person.program.url}/account")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    assert not [cookie for cookie in here.context.cookies() if cookie["name"] == "regsvc-session"]


def test_a_profile_is_changed_and_shown_as_text(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    page = log_in(visit(), person)
    name = "<img src=x onerror=alert(1)> {email}"
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#profile").get_by_role("status")).to_have_text("Saved.")
    expect(page.get_by_label("Name")).to_have_value(name)
    expect(page.locator("main img")).to_have_count(0)


def test_a_password_is_changed_and_other_sessions_end(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    other = log_in(visit(), person)
    page = log_in(visit(), person)
    page.get_by_text("Change password").first.click()
    part = page.locator("#password")
    part.get_by_label("Current password").fill(PASSWORD)
    part.get_by_label("New password").fill(NEW)
    expect(part.get_by_text("Very strong")).to_be_visible()
    part.get_by_role("button", name="Change password").click()
    expect(part.get_by_role("status").first).to_contain_text("all other sessions were ended")
    other.reload()
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()
    assert person.log_in(NEW) == 200


def test_one_session_is_ended_from_another(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    phone = log_in(visit(viewport=PHONE), person)
    page = log_in(visit(), person)
    sessions = page.locator("#sessions li")
    expect(sessions).to_have_count(2)
    expect(page.get_by_text("this browser")).to_have_count(1)
    sessions.get_by_role("button", name="End").click()
    expect(sessions).to_have_count(1)
    phone.reload()
    expect(phone.get_by_role("heading", name="Log in")).to_be_visible()


def test_a_forgotten_password_is_chosen_anew_with_the_mailed_link(
    person: Person, visit: Callable[..., Visit]
) -> None:
    person.join()
    here = visit()
    page = here.open(f"{person.program.url}/login")
    page.get_by_role("link", name="Forgot your password?").click()
    page.get_by_label("Email address").fill("nobody")
    page.keyboard.press("Enter")
    page.get_by_label("Email address").fill(person.address)
    page.get_by_role("button", name="Send the link").click()
    expect(page.get_by_role("status")).to_contain_text(f"If {person.address} has an account")
    open_link(person, page, "reset", number=2)
    password = page.get_by_label("New password")
    password.fill("short")
    page.get_by_role("button", name="Set the password").click()
    expect(page.locator("#password-fault")).to_have_text("Use at least 8 characters.")
    page.reload()
    page.get_by_label("New password").fill(NEW)
    expect(page.get_by_text("Very strong")).to_be_visible()
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_role("heading", name="Your password is set")).to_be_visible()
    page.get_by_role("link", name="Log in").click()
    page.get_by_label("Email address").fill(person.address)
    page.get_by_label("Password").fill(NEW)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=ACCOUNT)).to_be_visible()


def test_an_account_moves_to_another_address_and_back(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    page = log_in(visit(), person)
    moved = Person(person.program)
    page.get_by_text("Change address").first.click()
    part = page.locator("#address")
    part.get_by_label("New address").fill(moved.address)
    part.get_by_label("Current password").fill(PASSWORD)
    part.get_by_role("button", name="Change address").click()
    expect(part.get_by_role("status").first).to_contain_text("Open its link to confirm")
    link = visit().context.new_page()
    open_link(moved, link, "email-change", number=1)
    link.get_by_role("button", name="Confirm my address").click()
    expect(link.get_by_text("This browser is not logged in to the account")).to_be_visible()
    link.get_by_label("Password").fill(PASSWORD)
    link.get_by_role("button", name="Confirm my address").click()
    expect(link.get_by_role("heading", name="Your email address was changed")).to_be_visible()
    assert moved.log_in() == 200
    open_link(person, link, "email-undo", number=3)
    link.get_by_role("button", name="Undo the change").click()
    expect(link.get_by_role("heading", name="The email change was undone")).to_be_visible()
    open_link(person, link, "reset", number=4)


def test_an_account_is_deleted(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    page = log_in(visit(), person)
    page.get_by_text("Delete the account").first.click()
    part = page.locator("#delete")
    part.get_by_label("Current password").fill(PASSWORD)
    part.get_by_role("button", name="Delete the account").click()
    expect(page.get_by_role("status")).to_have_text("Your account was deleted.")
    assert person.log_in() == 401


@pytest.mark.parametrize("path", ["reset", "email-change", "email-not-me", "email-undo", "panic"])
def test_a_broken_link_says_so(path: str, person: Person, visit: Callable[..., Visit]) -> None:
    page = visit().open(f"{person.program.url}/{path}")
    expect(page.get_by_role("status").last).to_contain_text("incomplete")
    page = visit().open(f"{person.program.url}/{path}#t={'a' * 64}")
    if path == "reset":
        page.get_by_label("New password").fill(NEW)
    page.locator("#form button").click()
    expect(page.locator("#status")).to_contain_text("This link is not valid")
    expect(page.get_by_role("link", name="Log in")).to_be_visible()


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_nothing_bars_anybody(color_scheme: str, person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    here = visit(color_scheme=color_scheme, viewport=PHONE)
    for path in ("login", "forgot", "reset#t=abc", "email-change#t=abc", "email-undo#t=abc", "panic#t=abc"):
        page = here.open(f"{person.program.url}/{path}")
        assert find_barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page = log_in(here, person, "wrong")
    assert find_barriers(page) == []
    page = log_in(here, person)
    assert 10_000 < weigh(page) <= 60_000
    for summary in page.locator("summary").all():
        summary.click()
    assert find_barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
