"""The whole way with an identity provider in a real browser: plain HTTP on a LAN name, with and without scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browsers import LAN_NAME
from tests.identities.issuer import Issuer, provider_environment
from tests.programs import SharedProgram, _share_program
from tests.visits import PHONE, Person, Visit, find_barriers

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer().running() as running:
        yield running


@pytest.fixture(scope="module")
def program(
    issuer: Issuer, postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SharedProgram]:
    settings = {
        name.removeprefix("REGSVC_").lower(): value
        for name, value in provider_environment("OWN", issuer, LABEL="Own ID").items()
    }
    folder = tmp_path_factory.mktemp("identities")
    with _share_program("serve", postgres_server, folder, host=LAN_NAME, **settings) as running:
        yield running


def check(page: Page, *, scripts: bool = True) -> None:
    """Check that a page fits a phone and keeps no person from using it, which needs scripts of ours in it."""
    if not scripts:
        return
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert find_barriers(page) == []


def follow(page: Page, name: str, *, scripts: bool) -> None:
    """Go to the provider by keyboard, and come back."""
    page.get_by_role("link", name=name).focus()
    page.keyboard.press("Enter")
    if not scripts:
        expect(page.get_by_role("heading", name="Logging you in…")).to_be_visible()
        page.get_by_role("button", name="Continue").focus()
        page.keyboard.press("Enter")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_people_log_in_with_a_provider_and_look_after_their_identities(
    *, scripts: bool, issuer: Issuer, program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    here = visit(java_script_enabled=scripts, viewport=PHONE)
    # The one place where a code and a state stand in an address; no page may tell it further as its referrer.
    here.context.on(
        "request",
        lambda request: (
            here.rewritten.add(request.url)
            if request.url.startswith((issuer.url, f"{program.url}/login/with/own/done"))
            else None
        ),
    )
    issuer.subject, issuer.claims = f"person-{scripts}", {"email": f"ann-{scripts}@example.com".lower()}
    page = here.open(f"{program.url}/login")
    check(page, scripts=scripts)
    follow(page, "Continue with Own ID", scripts=scripts)
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    if scripts:  # going back leads before the provider, and posts nothing again
        page.go_back()
        page.wait_for_url("**/account")
        expect(page.get_by_role("heading", name="Your account")).to_be_visible()

    page.goto(f"{program.url}/account/security")
    part = page.locator("#identities")
    expect(part.get_by_text("Own ID", exact=True)).to_be_visible()
    expect(part.get_by_role("button")).to_have_count(0)
    page.get_by_role("link", name="Confirm that it is you").click()
    check(page, scripts=scripts)
    follow(page, "Continue with Own ID", scripts=scripts)
    expect(part.get_by_role("button", name="Disconnect Own ID")).to_be_visible()
    part.get_by_role("button", name="Disconnect Own ID").click()
    expect(part.get_by_role("alert")).to_contain_text("only way into your account")
    issuer.subject = f"second-{scripts}"
    follow(page, "Connect Own ID", scripts=scripts)
    expect(part.get_by_role("status")).to_have_text("Saved. We emailed you about the change.")
    expect(part.get_by_role("button", name="Disconnect Own ID")).to_have_count(2)
    check(page, scripts=scripts)
    part.get_by_role("button", name="Disconnect Own ID").first.click()
    expect(part.get_by_role("button", name="Disconnect Own ID")).to_have_count(1)

    page.goto(f"{program.url}/account")
    page.get_by_role("button", name="Log out", exact=True).click()
    expect(page.get_by_role("link", name="Continue with Own ID")).to_contain_text("Last used")
    issuer.metadata, issuer.claims = {}, {"nonce": "another"}
    follow(page, "Continue with Own ID", scripts=scripts)
    expect(page.get_by_role("alert")).to_contain_text("could not verify the provider's answer")
    check(page, scripts=scripts)


def test_a_sign_up_that_a_provider_began_is_confirmed_by_its_code(
    issuer: Issuer, program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    """The bare link, wherever it is pressed, asks for the code, and says where to enter it."""
    here = visit()
    here.context.on(
        "request",
        lambda request: (
            here.rewritten.add(request.url)
            if request.url.startswith((issuer.url, f"{program.url}/login/with/own/done"))
            else None
        ),
    )
    person = Person(program)
    issuer.subject = person.address
    issuer.claims = {"email": person.address, "email_verified": False}
    page = here.open(f"{program.url}/signup")
    page.get_by_role("link", name="Continue with Own ID").click()
    page.wait_for_url("**/signup/status")
    mail = person.mail()
    link = next(line for line in mail.text.splitlines() if "/confirm#t=" in line)
    page.goto(link)
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("status")).to_contain_text("Enter the code from the email")
    expect(page.get_by_label("Password")).to_be_hidden()
    page.get_by_role("link", name="code").click()
    page.get_by_label("Six-digit code").fill(mail.code)
    page.get_by_role("button", name="Confirm", exact=True).click()
    expect(page.get_by_role("heading", name="Your address is confirmed")).to_be_visible()
    page.goto(f"{program.url}/login")
    page.get_by_role("link", name="Continue with Own ID").click()
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
