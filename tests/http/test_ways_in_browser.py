"""Logging in with a mailed code, and taking an account back, in a real browser; what every page of the ways in has."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from regsvc.mail.message.languages import list_locales
from tests.databases import run_sql
from tests.factors.test_factors_browser import set_up
from tests.http.factor_calls import code_of
from tests.http.test_narrow_browser import check
from tests.services import PASSWORD, Mail, read_mails
from tests.visits import PHONE, Person, Visit, find_flaws

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

# What a person at a keyboard comes to, in this order: its name, and whether its focus is seen.
_FOCUSED = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  const style = getComputedStyle(at);
  const seen = style.outlineStyle !== "none" || style.boxShadow !== "none";
  return [at.outerHTML.slice(0, 120), at.matches(":focus-visible") && seen];
}"""


def wait_mail(person: Person, number: int, words: str) -> Mail:
    """Wait for so many mails to a person whose text has some words, and return the last."""
    deadline = time.monotonic() + 20
    while True:
        found = [
            mail for mail in read_mails(person.program.folder / "mail", person.address) if words in mail.text
        ]
        if len(found) >= number:
            return found[-1]
        assert time.monotonic() < deadline, "no mail came"
        time.sleep(0.05)


def ask_for_code(page: Page, person: Person) -> None:
    """Ask for a code from the login page on, by keyboard alone."""
    page.goto(f"{person.program.url}/login")
    page.get_by_role("link", name="Email me a code instead").press("Enter")
    expect(page.get_by_role("heading", name="Log in with a code")).to_be_visible()
    page.get_by_label("Email address").press_sequentially(person.address)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Six-digit code")).to_be_visible()
    expect(page.get_by_text(f"email to {person.address}")).to_contain_text(
        "We sent"
    )  # it loads itself no more


def enter_code(page: Page, code: str) -> None:
    page.get_by_label("Six-digit code").fill(code)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_code_logs_in_where_it_was_asked_for_alone(
    *, scripts: bool, person: Person, visit: Callable[..., Visit]
) -> None:
    """Another browser, which has a code of its own, gets in neither with this one nor with none."""
    person.join()
    page = visit(java_script_enabled=scripts).context.new_page()
    ask_for_code(page, person)
    code = wait_mail(person, 1, "in that browser alone").code
    other = visit(java_script_enabled=scripts).context.new_page()
    other.goto(f"{person.program.url}/login/code/status")
    expect(other.get_by_role("heading", name="Log in with a code")).to_be_visible()
    expect(other.get_by_label("Six-digit code")).to_have_count(0)
    ask_for_code(other, person)
    wait_mail(person, 2, "in that browser alone")
    enter_code(other, code)
    expect(other.get_by_text("This code is wrong")).to_be_visible()
    enter_code(page, f"{code[:3]} {code[3:]}")
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    expect(other.get_by_role("heading", name="Log in with a code")).to_be_visible()


def test_a_code_is_the_first_step_where_there_is_a_second(
    person: Person, visit: Callable[..., Visit]
) -> None:
    person.join()
    page = visit().context.new_page()
    ask_for_code(page, person)
    enter_code(page, wait_mail(person, 1, "in that browser alone").code)
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    secret, _ = set_up(page, person)
    other = visit().context.new_page()
    ask_for_code(other, person)
    enter_code(other, wait_mail(person, 2, "in that browser alone").code)
    expect(other.get_by_role("heading", name="Enter your code")).to_be_visible()
    other.get_by_label("Code from your app").fill(code_of(secret, 1))
    other.keyboard.press("Enter")
    expect(other.get_by_role("heading", name="Your account")).to_be_visible()


@pytest.mark.parametrize("language", list_locales(None))
def test_the_pages_fit_in_every_language(language: str, person: Person, visit: Callable[..., Visit]) -> None:
    """Whether there is an account or not: this address has none."""
    here = visit(
        viewport=PHONE, extra_http_headers={"Accept-Language": language}, java_script_enabled=language != "en"
    )
    page = here.open(f"{person.program.url}/login/code")
    assert page.evaluate("document.documentElement.lang") == language
    check(page)
    page.locator("#email").fill(person.address)
    page.keyboard.press("Enter")
    expect(page.locator("#code")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == language
    check(page)
    page.goto(f"{person.program.url}/panic#t=abc")
    assert page.evaluate("document.documentElement.lang") == language
    check(page)


def test_the_link_in_a_notice_takes_the_account_back(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    owner = visit().context.new_page()
    ask_for_code(owner, person)
    enter_code(owner, wait_mail(person, 1, "in that browser alone").code)
    set_up(owner, person)
    found = re.search(r"^\S+/panic#t=\S+$", wait_mail(person, 1, "/panic#t=").text, re.MULTILINE)
    assert found
    page = visit(viewport=PHONE).open(found[0])
    assert page.url == f"{person.program.url}/panic"
    assert find_flaws(page) == []
    page.get_by_role("button", name="Take the account back").press("Enter")
    expect(page.get_by_role("heading", name="The account is yours again")).to_be_focused()
    assert find_flaws(page) == []
    owner.reload()
    expect(owner.get_by_role("heading", name="Log in")).to_be_visible()
    wait_mail(person, 1, "/reset#t=")


def walk(page: Page) -> None:
    """Go through a page with the Tab key: everything that can be used is reached, and seen to be."""
    page.evaluate(
        "document.body.tabIndex = -1, document.body.focus(), document.body.removeAttribute('tabindex')"
    )
    reached: list[str] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        at = page.evaluate(_FOCUSED)
        if at is None:
            break
        html, seen = at
        assert seen, html
        reached.append(html)
    wanted = page.locator(
        "main :is(a[href], button, input:not([type=hidden]), select, summary):visible"
    ).count()
    assert len(reached) >= wanted, reached


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_every_page_is_for_everybody(color_scheme: str, person: Person, visit: Callable[..., Visit]) -> None:
    """Labels, order of headings, landmarks, contrast; the width of a phone; and a visible focus on all of it."""
    person.join()
    url = person.program.url

    def look(page: Page) -> None:
        assert find_flaws(page) == [], page.url
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        walk(page)

    page = visit(color_scheme=color_scheme, viewport=PHONE).context.new_page()
    page.goto(f"{url}/login/code")
    look(page)
    ask_for_code(page, person)
    look(page)
    enter_code(page, "000000")
    expect(page.get_by_text("This code is wrong")).to_be_visible()
    look(page)
    enter_code(page, wait_mail(person, 1, "in that browser alone").code)
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    look(page)
    page.goto(f"{url}/account/proof?for=delete")
    look(page)
    page.goto(f"{url}/account")
    set_up(page, person)
    look(page)
    page.goto(f"{url}/account/security")
    look(page)
    page.goto(f"{url}/account?open=delete")  # with a proof: no form asks for a password
    expect(page.get_by_role("button", name="Delete the account")).to_be_visible()
    expect(page.locator("input[type=password]:not(#new-password)")).to_have_count(0)
    look(page)
    page.goto(f"{url}/panic#t=abc")
    look(page)
    second = visit(color_scheme=color_scheme, viewport=PHONE).open(f"{url}/login")
    second.get_by_label("Email address").fill(person.address)
    second.get_by_label("Password").fill(PASSWORD)
    second.keyboard.press("Enter")
    second.get_by_text("Use a recovery code").click()
    look(second)


def test_a_user_without_a_password_finds_no_dead_end(person: Person, visit: Callable[..., Visit]) -> None:
    """Whose mailbox is the only way in is led to a password, and sets one by the mailed link."""
    person.join()
    run_sql(
        person.program.environ["REGSVC_DATABASE_URL"],
        f"UPDATE users SET password_hash = '!none' WHERE email = '{person.address}'",
    )
    page = visit(viewport=PHONE).context.new_page()
    ask_for_code(page, person)
    enter_code(page, wait_mail(person, 1, "in that browser alone").code)
    page.get_by_text("Delete the account").first.click()
    page.locator("#delete").get_by_role("link", name="Confirm that it is you").press("Enter")
    expect(page.get_by_text("no password and no authenticator app")).to_be_visible()
    assert find_flaws(page) == []
    page.get_by_role("link", name="Choose a password").press("Enter")
    page.get_by_label("Email address").fill(person.address)
    page.keyboard.press("Enter")
    found = re.search(r"^\S+/reset#t=\S+$", wait_mail(person, 1, "/reset#t=").text, re.MULTILINE)
    assert found
    page.goto(found[0])
    page.get_by_label("New password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Your password is set")).to_be_visible()
    assert person.log_in() == httpx.codes.OK
