"""Every page that waits for a mail moves by itself, in a real browser: the login code's, and the email change's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import httpx
from playwright.sync_api import expect

from tests.databases import run_sql
from tests.http.test_account_browser import log_in, open_link
from tests.http.test_signup_browser import expect_steps
from tests.services import PASSWORD
from tests.visits import Person, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Page


def ask_for_code(visit: Visit, person: Person) -> Page:
    """Ask for a login code, and be on the page that waits for it."""
    page = visit.open(f"{person.program.url}/login/code")
    page.get_by_label("Email address").fill(person.address)
    page.keyboard.press("Enter")
    page.wait_for_url("**/login/code/status")
    expect(page.locator("#lead")).to_contain_text(f"We sent an email to {person.address}")
    page.evaluate("window.before = true")
    return page


def move_login(person: Person, state: str, **values: str) -> None:
    """Have the login attempt be in a state that no mail server here brings about."""
    columns = "".join(f", {name} = {value}" for name, value in values.items())
    own = f"WHERE email = '{person.address}' AND login_key IS NOT NULL"
    run_sql(
        person.program.environ["REGSVC_DATABASE_URL"],
        f"UPDATE registrations SET state = '{state}', seq = seq + 1{columns} {own}",
        f"SELECT pg_notify('registration_state', id || ':' || seq) FROM registrations {own}",
    )


def expect_same_page(page: Page) -> None:
    """Expect that the page was not loaded again."""
    assert page.evaluate("window.before") is True


def test_the_page_of_a_login_code_moves_by_its_websocket(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    here = visit()
    page = ask_for_code(here, person)
    move_login(person, "delayed", reason="'mailbox_full'", next_try_at="now() + interval '5 minutes'")
    expect(page.locator("#lead")).to_contain_text("The mailbox is full. We will try again automatically.")
    expect_steps(page, ["done", "trouble", "", ""])
    expect_same_page(page)
    asked = [request for request in here.requests if "/api/v1/registrations/" in request.url]
    assert [request for request in asked if "wait=" in request.url] == []
    page.get_by_label("code").fill(person.mail(number=2).code)
    page.wait_for_url("**/account")


def test_without_websockets_that_page_polls(person: Person, visit: Callable[..., Visit]) -> None:
    """A proxy takes the websocket and swallows what goes through."""
    person.join()
    here = visit()
    here.context.route_web_socket("**/live", lambda _: None)
    page = ask_for_code(here, person)
    move_login(person, "bounced", reason="'recipient_refused'")
    expect(page.locator("#lead")).to_contain_text("does not know this address", timeout=30_000)
    expect_same_page(page)
    assert any("wait=" in request.url for request in here.requests)


def test_a_login_attempt_that_is_over_says_so(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    page = ask_for_code(visit(), person)
    move_login(person, "expired", password_hash="NULL")
    expect(page.get_by_role("link", name="Email me a code")).to_be_visible()


def test_without_scripts_that_page_looks_again_by_itself(person: Person, visit: Callable[..., Visit]) -> None:
    person.join()
    here = visit(java_script_enabled=False)
    page = here.open(f"{person.program.url}/login/code")
    page.get_by_label("Email address").fill(person.address)
    page.keyboard.press("Enter")
    expect(page.locator("#lead")).to_contain_text(f"We sent an email to {person.address}")
    move_login(person, "sending")
    page.reload()
    expect(page.locator("#lead")).to_have_attribute("data-state", "sending")
    move_login(person, "bounced", reason="'recipient_refused'")
    expect(page.locator("#lead")).to_have_attribute("data-state", "bounced")


def ask_to_move(page: Page, moved: Person) -> None:
    """Ask on the account page to move to another address."""
    page.get_by_text("Change address").first.click()
    part = page.locator("#address")
    part.get_by_label("New address").fill(moved.address)
    part.get_by_label("Current password").fill(PASSWORD)
    part.get_by_role("button", name="Change address").click()
    expect(part.locator("#lead")).to_have_attribute("data-state", "sent")


def test_the_page_of_an_email_change_moves_when_the_mail_bounces(
    person: Person, visit: Callable[..., Visit]
) -> None:
    """The form for another address is open then, with the address in it."""
    person.join()
    page = log_in(visit(), person)
    moved = Person(person.program)
    ask_to_move(page, moved)
    page.evaluate("window.before = true")
    run_sql(
        person.program.environ["REGSVC_DATABASE_URL"],
        "UPDATE mails m SET report = 'bounced', report_reason = 'no_such_mailbox' FROM address_moves a"
        f" WHERE a.id = m.move_id AND m.kind = 'email_change' AND a.new_email = '{moved.address}'",
    )
    part = page.locator("#address")
    expect(part.locator("#lead")).to_have_attribute("data-state", "bounced")
    expect(part.get_by_label("New address")).to_have_value(moved.address)
    expect(part.get_by_label("New address")).to_be_visible()
    expect_same_page(page)


def test_the_page_of_an_email_change_moves_when_it_is_confirmed_elsewhere(
    person: Person, visit: Callable[..., Visit]
) -> None:
    person.join()
    here = visit()
    page = log_in(here, person)
    moved = Person(person.program)
    ask_to_move(page, moved)
    link = here.context.new_page()
    open_link(moved, link, "email-change", number=1)
    link.get_by_role("button", name="Confirm my address").click()
    link.get_by_label("Password").fill(PASSWORD)
    link.get_by_role("button", name="Confirm my address").click()
    expect(link.get_by_role("heading", name="Your email address was changed")).to_be_visible()
    expect(page.locator("#address")).to_contain_text(moved.address)
    expect(page.locator("#lead")).to_have_count(0)


def test_the_state_of_an_email_change_is_for_its_user_alone(person: Person) -> None:
    answer = httpx.get(f"{person.program.url}/account/address/state", timeout=60)
    assert answer.status_code == 401
