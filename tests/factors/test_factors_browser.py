"""Setting up an authenticator app and logging in with it, in a real browser, by keyboard and without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from regsvc.mail.message.languages import list_locales
from tests.http.factor_calls import code_of
from tests.http.test_narrow_browser import check
from tests.services import PASSWORD, PLAIN
from tests.visits import PHONE, Person, Visit, find_barriers

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)


def log_in(here: Visit, person: Person) -> Page:
    page = here.open(f"{person.program.url}/login")
    page.get_by_label("Email address").fill(person.address)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    return page


def set_up(page: Page, person: Person) -> tuple[str, list[str]]:
    """Set up an app from the account page, by keyboard alone, and return its secret and the recovery codes."""
    page.get_by_role("link", name="Authenticator app, recovery codes").press("Enter")
    page.get_by_role("link", name="Confirm that it is you").press("Enter")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Set up an app").press("Enter")
    drawn = page.get_by_role("img", name="QR code")
    expect(drawn).to_be_visible()
    assert drawn.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    secret = page.locator(".key").inner_text().replace(" ", "")
    page.get_by_label("Code from your app").fill(code_of(secret))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Save your recovery codes")).to_be_visible()
    codes = re.findall(r"[0-9A-Z]{5}-[0-9A-Z]{5}", page.locator("#codes").inner_text())
    assert len(codes) == 10
    return secret, codes


@pytest.mark.parametrize("scripts", [True, False])
def test_a_user_sets_up_an_app_and_logs_in_with_it(
    scripts: bool,  # noqa: FBT001 - a parameter of pytest's
    person: Person,
    visit: Callable[..., Visit],
) -> None:
    person.join()
    page = log_in(visit(java_script_enabled=scripts), person)
    secret, codes = set_up(page, person)
    expect(page.get_by_role("button", name="Print")).to_be_visible(visible=scripts)
    page.get_by_role("link", name="I have saved them").press("Enter")
    expect(page.locator("#codes")).to_contain_text("10 of 10")
    other = log_in(visit(java_script_enabled=scripts), person)
    expect(other.get_by_role("heading", name="Enter your code")).to_be_visible()
    other.get_by_label("Code from your app").fill("000000")
    other.keyboard.press("Enter")
    expect(other.get_by_role("alert")).to_contain_text("This code is wrong")
    other.get_by_label("Code from your app").fill(code_of(secret, 1))
    other.keyboard.press("Enter")
    expect(other.get_by_role("heading", name="Your account")).to_be_visible()
    lost = log_in(visit(java_script_enabled=scripts), person)
    lost.get_by_text("Use a recovery code").click()
    lost.get_by_label("Recovery code").fill(codes[0].replace("-", "").lower())
    lost.keyboard.press("Enter")
    expect(lost.get_by_role("heading", name="Your account")).to_be_visible()
    page.get_by_role("button", name="Turn off").press("Enter")
    expect(page.get_by_role("status").first).to_have_text("The authenticator app is off.")


def test_recovery_codes_are_copied(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    here = visit()
    here.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = log_in(here, person)
    _, codes = set_up(page, person)
    page.bring_to_front()  # a page in the background may not write to the clipboard
    page.get_by_role("button", name="Copy").press("Enter")
    expect(page.get_by_role("status")).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()").split() == codes


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_nothing_bars_anybody(color_scheme: str, person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    here = visit(color_scheme=color_scheme, viewport=PHONE)

    def look(page: Page) -> None:
        assert find_barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    page = log_in(here, person)
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    for path in ("/account/security", "/account/proof?for=export"):
        page.goto(f"{person.program.url}{path}")
        look(page)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_text("You can download your data now")).to_be_visible()
    page.goto(f"{person.program.url}/account/security")
    page.get_by_role("button", name="Set up an app").click()
    look(page)
    secret = page.locator(".key").inner_text().replace(" ", "")
    page.get_by_label("Code from your app").fill(code_of(secret))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Save your recovery codes")).to_be_visible()
    look(page)
    page.goto(f"{person.program.url}/account/security")
    look(page)
    page = log_in(visit(color_scheme=color_scheme, viewport=PHONE), person)
    page.get_by_text("Use a recovery code").click()
    look(page)


def test_every_page_fits_in_every_language(person: Person, visit: Callable[..., Visit]) -> None:
    """On the narrowest phone, no word of a label is broken."""
    person.join()
    url = person.program.url
    body = {"email": person.address, "password": PASSWORD}
    token = httpx.post(f"{url}/api/v1/login", json=body, timeout=60, verify=PLAIN).json()["access_token"]
    own = {"Authorization": f"Bearer {token}"}
    page = log_in(visit(viewport=PHONE), person)
    set_up(page, person)
    here = visit(viewport=PHONE)
    other = here.context.new_page()
    for language in list_locales(None):
        changed = httpx.patch(
            f"{url}/api/v1/me", json={"locale": language}, headers=own, timeout=60, verify=PLAIN
        )
        assert changed.status_code == 200, changed.text
        page.goto(f"{url}/account/security")
        assert page.evaluate("document.documentElement.lang") == language
        check(page)
        here.context.set_extra_http_headers({"Accept-Language": language})
        other.goto(f"{url}/login")
        other.locator("#email").fill(person.address)
        other.locator("#password").fill(PASSWORD)
        other.keyboard.press("Enter")
        expect(other.locator("#code")).to_be_visible()
        other.locator("summary").click()
        assert other.evaluate("document.documentElement.lang") == language
        check(other)
