"""Terms of use, proof of work and invitations in a browser without a hash function of its own, as over plain HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.programs import SharedProgram, clean_environ
from tests.services import PASSWORD
from tests.visits import PHONE, Person, Visit, find_barriers

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

NO_WORKERS = "delete globalThis.Worker"


def fill_in(page: Page, person: Person) -> None:
    page.get_by_label("Name").fill("Ann")
    page.get_by_label("Email address").first.fill(person.address)
    page.get_by_label("Password", exact=True).fill(PASSWORD)


@pytest.mark.parametrize("script", ["", NO_WORKERS], ids=["worker", "no worker"])
def test_people_do_not_notice_the_work_and_are_asked_for_the_terms(
    script: str, strict_program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    here, person = visit(viewport=PHONE), Person(strict_program)
    here.context.add_init_script(script)
    page = here.open(f"{strict_program.url}/signup")
    assert page.evaluate("isSecureContext") is False
    assert find_barriers(page) == []
    expect(page.get_by_text("This form needs JavaScript")).to_be_hidden()
    fill_in(page, person)
    box = page.get_by_label("I accept the terms of use.")
    expect(box).not_to_be_checked()
    expect(page.get_by_role("link", name="Read the terms of use")).to_have_attribute(
        "href", "https://example.org/terms"
    )
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_text("Accept the terms of use to continue.")).to_be_visible()
    expect(box).to_be_focused()
    page.keyboard.press("Space")  # by keyboard
    page.get_by_label("Password", exact=True).press("Enter")
    page.get_by_label("Six-digit code").fill(person.mail().code)
    page.wait_for_url("**/account")  # the page logs in by itself, with a form
    expect(page.get_by_role("heading", name="Accept our terms of use")).to_have_count(0)
    page.get_by_role("button", name="Log out", exact=True).click()
    page.get_by_label("Email address").fill(person.address)
    page.get_by_label("Password", exact=True).fill("not this one")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Wrong email address or password.")).to_be_visible()
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password", exact=True).press("Enter")
    page.wait_for_url("**/account")
    solutions = [request.post_data or "" for request in here.requests if request.url.endswith("/login")]
    assert sum("altcha=ey" in form for form in solutions) == 3
    assert {request.url.split("/")[2] for request in here.requests} == {strict_program.url.split("/")[2]}


def run_cli(program: SharedProgram, *arguments: str) -> str:
    """Return what an operator's command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "regsvc", *arguments],
        env=clean_environ(program.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_invited_person_creates_an_account_by_keyboard(
    strict_program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    person, here = Person(strict_program), visit(viewport=PHONE)
    line = run_cli(strict_program, "users", "invite", person.address)
    assert person.address in line
    mail = person.mail()
    assert mail.token_for("invite") not in line
    link = f"{strict_program.url}/invite#t={mail.token_for('invite')}"
    page = here.open(link)
    assert page.url == f"{strict_program.url}/invite"
    assert find_barriers(page) == []
    page.get_by_role("button", name="Create my account").click()
    for text in ("Enter your name.", "Choose a password.", "Accept the terms of use to continue."):
        expect(page.get_by_text(text)).to_be_visible()
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("Ida")
    page.keyboard.press("Tab")
    page.keyboard.type("short")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")  # past the box that shows the password
    page.keyboard.press("Space")
    expect(page.get_by_label("I accept the terms of use.")).to_be_checked()
    page.get_by_label("Password", exact=True).press("Enter")
    expect(page.get_by_text("Use at least 8 characters.")).to_be_visible()
    expect(page.get_by_label("Password", exact=True)).to_be_focused()
    page.reload()  # the link is kept for this tab
    page.get_by_label("Name").fill("Ida")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("I accept the terms of use.").check()
    page.get_by_role("button", name="Create my account").click()
    expect(page.get_by_role("heading", name="Your account is ready")).to_be_focused()
    page.get_by_role("link", name="Log in").first.click()
    page.get_by_label("Email address").fill(person.address)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password", exact=True).press("Enter")
    page.wait_for_url("**/account")
    again = visit().open(link)
    again.get_by_label("Name").fill("Eve")
    again.get_by_label("Password", exact=True).fill(PASSWORD)
    again.get_by_label("I accept the terms of use.").check()
    again.get_by_role("button", name="Create my account").click()
    expect(again.get_by_text("was used already")).to_be_visible()
    expect(visit().open(f"{strict_program.url}/invite#t=cut").get_by_text("incomplete")).to_be_visible()
    listed = run_cli(strict_program, "users", "invitations", "--json")
    assert any(
        (each["address"], each["state"]) == (person.address, "accepted")
        for each in json.loads(listed)["invitations"]
    )


def test_an_operator_revokes_an_invitation(strict_program: SharedProgram) -> None:
    person = Person(strict_program)
    made = json.loads(
        run_cli(strict_program, "users", "invite", person.address, "--language", "fr", "--json")
    )
    (invited,) = made["invitations"]
    assert person.mail().message["Subject"] == "Vous êtes invité sur regsvc"
    run_cli(strict_program, "users", "revoke-invitation", invited["id"])
    assert f"{invited['id']}  revoked" in run_cli(strict_program, "users", "invitations")


def test_a_page_without_scripts_says_what_it_needs(
    strict_program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    here = visit(java_script_enabled=False)
    for path in ("signup", "login", "forgot"):
        page = here.open(f"{strict_program.url}/{path}")
        expect(page.get_by_text("This form needs JavaScript")).to_be_visible()
    page = here.open(f"{strict_program.url}/signup")
    fill_in(page, Person(strict_program))
    page.get_by_label("I accept the terms of use.").check()
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_text("Your browser has to solve a small task first")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_value("Ann")
    expect(page.get_by_label("I accept the terms of use.")).to_be_checked()
