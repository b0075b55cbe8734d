"""Passkeys in a real browser with a virtual authenticator: sign up, log in by button and autofill, go on without."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pyotp
import pytest
from playwright.sync_api import Page, expect

from tests.databases import run_sql
from tests.passkey_browsers import Device, add_device
from tests.programs import SharedProgram
from tests.services import PASSWORD
from tests.visits import PHONE, Person, Visit, find_barriers

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

SIGN_UP, LOG_IN = "Sign up with a passkey", "Log in with a passkey"


@pytest.fixture
def person(localhost_program: SharedProgram) -> Person:
    return Person(localhost_program)


def sign_up(here: Visit, person: Person) -> tuple[Page, Device]:
    """Sign up with a passkey, and wait until the mail server has the mail."""
    page = here.context.new_page()
    device = add_device(page)
    page.goto(f"{person.program.url}/signup")
    page.get_by_label("Name").fill("Ann")
    page.get_by_label("Email address").first.fill(person.address)
    page.get_by_role("button", name=SIGN_UP).click()
    expect(page.get_by_role("heading", name="Check your inbox")).to_be_visible()
    return page, device


def join(here: Visit, person: Person) -> tuple[Page, Device]:
    """Sign up with a passkey and confirm by the code."""
    page, device = sign_up(here, person)
    page.get_by_label("Six-digit code").fill(person.mail().code)  # what is filled in at once is sent at once
    expect(page.get_by_role("heading", name="Your address is confirmed")).to_be_visible()
    return page, device


def open_login(page: Page, person: Person, *, fills_in: bool = False) -> None:
    """Open the login page, with autofill or with the button alone."""
    if not fills_in:
        page.add_init_script("PublicKeyCredential.isConditionalMediationAvailable = async () => false")
    page.goto(f"{person.program.url}/login")


def expect_account(page: Page, person: Person) -> None:
    page.wait_for_url("**/account")
    expect(page.get_by_text(person.address)).to_be_visible()


def test_a_person_signs_up_and_logs_in_without_a_password(
    person: Person, visit: Callable[..., Visit]
) -> None:
    page, device = join(visit(), person)
    (passkey,) = device.passkeys()
    assert passkey["isResidentCredential"]
    assert passkey["rpId"] == "localhost"
    open_login(page, person)
    page.get_by_role("button", name=LOG_IN).click()
    expect_account(page, person)


def test_autofill_logs_in(person: Person, visit: Callable[..., Visit]) -> None:
    page, _ = join(visit(), person)
    open_login(page, person, fills_in=True)
    expect_account(page, person)


def test_a_page_that_is_open_for_two_days_still_logs_in(person: Person, visit: Callable[..., Visit]) -> None:
    """Its challenge is renewed when three quarters of its life are over; what waited is aborted first."""
    page, device = join(visit(), person)
    device.wait()
    page.clock.install()
    with page.expect_response("**/login/passkey/options") as first:
        open_login(page, person, fills_in=True)
    life = first.value.json()["publicKey"]["timeout"]
    with page.expect_response("**/login/passkey/options"):
        page.clock.fast_forward(int(life * 0.76))
    # By then the service has forgotten all challenges of before.
    run_sql(person.program.environ["REGSVC_DATABASE_URL"], "DELETE FROM passkey_challenges")
    device.touch()
    page.clock.fast_forward("48:00:00")
    expect_account(page, person)


def test_what_goes_wrong_is_said_and_the_password_still_works(
    person: Person, visit: Callable[..., Visit]
) -> None:
    person.join()
    page = visit().context.new_page()
    device = add_device(page)
    open_login(page, person)
    device.refuse()
    page.get_by_role("button", name=LOG_IN).click()  # and there is no passkey on the device
    expect(page.get_by_role("alert")).to_contain_text("Try again, or choose another way.")
    page.get_by_label("Email address").fill(person.address)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    expect_account(page, person)


def test_a_passkey_of_no_account_is_said_to_be_unknown_and_signalled(
    person: Person, visit: Callable[..., Visit]
) -> None:
    page, device = join(visit(), person)
    run_sql(
        person.program.environ["REGSVC_DATABASE_URL"],
        f"DELETE FROM users WHERE email = '{person.address}'",
    )
    page.add_init_script(
        "PublicKeyCredential.signalUnknownCredential = async (it) => { window.signalled = JSON.stringify(it); }"
    )
    credential = device.passkeys()[0]["credentialId"]
    open_login(page, person)
    page.get_by_role("button", name=LOG_IN).click()
    expect(page.get_by_role("alert")).to_contain_text("No account here has this passkey.")
    page.wait_for_function("window.signalled")
    told = json.loads(page.evaluate("window.signalled"))
    assert told["rpId"] == "localhost"
    assert told["credentialId"] == credential.replace("+", "-").replace("/", "_").rstrip("=")


def test_on_the_phone_the_link_asks_for_the_passkey(person: Person, visit: Callable[..., Visit]) -> None:
    laptop, phone = visit(), visit(viewport=PHONE, has_touch=True)
    page, device = sign_up(laptop, person)
    link = re.search(r"^\S+/confirm#t=\S+$", person.mail().text, re.MULTILINE)
    assert link
    there = phone.context.new_page()
    add_device(there).give(device.passkeys()[0])
    there.goto(link[0])
    there.get_by_role("button", name="Confirm my address").click()
    expect(there.get_by_text("A sign-up for this address has a passkey.")).to_be_visible()
    expect(there.get_by_label("Password")).to_be_hidden()
    assert find_barriers(there) == []
    assert there.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    there.get_by_role("button", name="Confirm with my passkey").click()
    expect(there.get_by_role("heading", name="Your address is confirmed")).to_be_visible()
    expect(page.get_by_role("heading", name="Your address is confirmed")).to_be_visible()


@pytest.mark.parametrize("path", ["/login", "/signup"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_are_for_everybody(
    path: str, scheme: str, person: Person, visit: Callable[..., Visit]
) -> None:
    page = visit(viewport=PHONE, color_scheme=scheme).open(f"{person.program.url}{path}")
    button = page.get_by_role("button", name=re.compile("with a passkey"))
    expect(button).to_be_visible()
    assert find_barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for _ in range(12):
        page.keyboard.press("Tab")
        if button.evaluate("it => it === document.activeElement"):
            break
    expect(button).to_be_focused()


@pytest.mark.parametrize("way", ["no scripts", "no passkeys", "another name"])
def test_without_passkeys_nothing_is_offered(way: str, person: Person, visit: Callable[..., Visit]) -> None:
    """Where a browser has none, or has none at this address, the pages are as before."""
    here = visit(java_script_enabled=way != "no scripts")
    if way == "no passkeys":
        here.context.add_init_script("delete window.PublicKeyCredential")
    url = (
        person.program.url.replace("localhost", "127.0.0.1") if way == "another name" else person.program.url
    )
    for path in ("/login", "/signup"):
        page = here.open(f"{url}{path}")
        expect(page.get_by_label("Password", exact=True)).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("passkey"))).to_be_hidden()


def test_a_sign_up_names_what_is_wrong_before_it_asks_for_a_passkey(
    person: Person, visit: Callable[..., Visit]
) -> None:
    page = visit().context.new_page()
    device = add_device(page)
    page.goto(f"{person.program.url}/signup")
    page.get_by_label("Name").fill("Ann")
    page.get_by_label("Email address").first.fill("no address")
    page.get_by_role("button", name=SIGN_UP).click()
    expect(page.get_by_text("Enter a valid email address")).to_be_visible()
    expect(page.get_by_label("Email address").first).to_be_focused()
    assert device.passkeys() == []


def log_in_with_password(page: Page, person: Person) -> None:
    open_login(page, person)
    page.get_by_label("Email address").fill(person.address)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    expect_account(page, person)


def unlock(page: Page, person: Person) -> None:
    """Prove to be there by the password, for changes of the security page."""
    page.goto(f"{person.program.url}/account/proof?for=security")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.locator("form", has=page.get_by_label("Password", exact=True)).get_by_role("button").click()
    page.wait_for_url("**/account/security")


def test_a_passkey_is_added_renamed_used_as_proof_and_removed(
    person: Person, visit: Callable[..., Visit]
) -> None:
    person.join()
    here = visit(viewport=PHONE)
    page = here.context.new_page()
    device = add_device(page)
    page.add_init_script(
        "PublicKeyCredential.signalAllAcceptedCredentials = async (it) => { window.accepted = JSON.stringify(it); }"
    )
    log_in_with_password(page, person)
    unlock(page, person)
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("The passkey was added.")).to_be_visible()
    (passkey,) = device.passkeys()
    part = page.get_by_role("region", name="Passkeys")
    part.locator("summary").click()
    part.get_by_label("Name of the passkey").fill("My phone")
    part.get_by_role("button", name="Rename").click()
    expect(page.get_by_text("The passkey was renamed.")).to_be_visible()
    expect(part.get_by_text("My phone")).to_be_visible()
    assert find_barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    # In another session the passkey is the proof.
    page.context.clear_cookies()
    open_login(page, person)
    page.get_by_role("button", name=LOG_IN).click()
    expect_account(page, person)
    page.goto(f"{person.program.url}/account/proof?for=security")
    assert find_barriers(page) == []
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/account/security")
    page.get_by_role("button", name="Remove: My phone").click()
    expect(page.get_by_text("The passkey was removed.")).to_be_visible()
    page.wait_for_function("window.accepted")
    told = json.loads(page.evaluate("window.accepted"))
    assert (told["rpId"], told["allAcceptedCredentialIds"]) == ("localhost", [])
    assert told["userId"] == passkey["userHandle"].replace("+", "-").replace("/", "_").rstrip("=")


def test_the_last_way_in_is_not_removed_on_the_page(person: Person, visit: Callable[..., Visit]) -> None:
    page, _ = join(visit(), person)
    open_login(page, person)
    page.get_by_role("button", name=LOG_IN).click()
    expect_account(page, person)
    page.goto(f"{person.program.url}/account/proof?for=security")
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/account/security")
    page.get_by_role("button", name=re.compile("^Remove: ")).click()
    expect(page.get_by_text("This is the only way into your account.")).to_be_visible()


def test_a_passkey_is_the_second_step_of_a_login(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    page = visit().context.new_page()
    add_device(page)
    log_in_with_password(page, person)
    unlock(page, person)
    page.get_by_role("button", name="Add a passkey").click()
    expect(page.get_by_text("The passkey was added.")).to_be_visible()
    page.locator("form[action='/account/security/totp'] button").click()
    key = page.locator("code.key").inner_text().replace(" ", "")
    page.locator("#code").fill(pyotp.TOTP(key).now())
    page.locator("form[action='/account/security/totp/confirm'] button").click()
    page.wait_for_url("**/account/security/totp/confirm")
    page.context.clear_cookies()
    open_login(page, person)
    page.get_by_label("Email address").fill(person.address)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url("**/login/second-factor")
    assert find_barriers(page) == []
    page.get_by_role("button", name="Use a passkey").click()
    expect_account(page, person)
