"""What the links in a mail open, in a real browser: it confirms when a person says so, and gives nothing away."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.databases import run_sql
from tests.programs import SharedProgram
from tests.services import PASSWORD, Mail
from tests.visits import PHONE, Person, Visit, find_barriers

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

CONFIRM = "Confirm my address"
CONFIRMED = "Your address is confirmed"
NOT_ME = "This was not me"
PREVIEW = "/api/v1/confirm-email/preview"


def link_of(mail: Mail, page: str = "confirm") -> str:
    found = re.search(rf"^\S+/{page}#t=\S+$", mail.text, re.MULTILINE)
    assert found, mail.text
    return found[0]


def test_the_link_of_a_mail_opens_a_page_whose_button_confirms(
    person: Person, visit: Callable[..., Visit]
) -> None:
    here = visit()
    page = here.open(link_of(person.sign_up()))
    assert page.url == f"{person.program.url}/confirm"
    expect(page.get_by_role("heading", name="Confirm your address")).to_be_visible()
    expect(page.get_by_text(f"{person.address[0]}***@example.com")).to_be_visible()
    expect(page.get_by_text("127.0.0.0/24")).to_be_visible()
    assert here.posts() == [PREVIEW]
    assert person.log_in() == 401
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("log in now")
    expect(page.get_by_role("button")).to_have_count(0)
    assert here.posts() == [PREVIEW, "/api/v1/confirm-email"]
    assert person.log_in() == 200


def test_a_reload_loses_neither_the_link_nor_the_outcome(person: Person, visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.open(link_of(person.sign_up()))
    page.reload()
    page.get_by_role("button", name=CONFIRM).dblclick()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    assert here.posts().count("/api/v1/confirm-email") == 1


def test_a_link_that_was_used_says_so_elsewhere_too(person: Person, visit: Callable[..., Visit]) -> None:
    link = link_of(person.sign_up())
    visit().open(link).get_by_role("button", name=CONFIRM).click()
    second = visit().open(link)
    expect(second.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    expect(second.get_by_role("button")).to_have_count(0)


def test_saying_that_it_was_somebody_else_voids_the_sign_up(
    person: Person, visit: Callable[..., Visit]
) -> None:
    link = link_of(person.sign_up())
    page = visit().open(link)
    page.get_by_role("button", name=NOT_ME).click()
    expect(page.get_by_role("heading", name="The sign-up is cancelled")).to_be_visible()
    page.goto(link)
    expect(page.get_by_role("status")).to_contain_text("was cancelled")
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("link", name="Sign up")).to_be_visible()
    assert person.log_in() == 401


def test_the_mails_own_way_to_say_so_has_one_button(person: Person, visit: Callable[..., Visit]) -> None:
    page = visit().open(link_of(person.sign_up(), "not-me"))
    page.get_by_role("button", name="Cancel the sign-up").click()
    expect(page.get_by_role("heading", name="The sign-up is cancelled")).to_be_visible()


def test_who_has_confirmed_cannot_void_any_more(person: Person, visit: Callable[..., Visit]) -> None:
    mail = person.sign_up()
    visit().open(link_of(mail)).get_by_role("button", name=CONFIRM).click()
    page = visit().open(link_of(mail, "not-me"))
    page.get_by_role("button", name="Cancel the sign-up").click()
    expect(page.get_by_role("status")).to_contain_text("already confirmed")


def test_who_clicked_not_me_by_mistake_can_still_confirm(person: Person, visit: Callable[..., Visit]) -> None:
    page = visit().open(link_of(person.sign_up(), "not-me"))
    page.get_by_role("link", name="It was me").click()
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()


def test_a_link_that_is_too_old_says_so_and_how_to_go_on(person: Person, visit: Callable[..., Visit]) -> None:
    link = link_of(person.sign_up())
    run_sql(
        person.program.environ["REGSVC_DATABASE_URL"],
        f"UPDATE registrations SET expires_at = now() - interval '1 s' WHERE email = '{person.address}'",
    )
    page = visit().open(link)
    expect(page.get_by_role("status")).to_contain_text("has expired")
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("link", name="Sign up")).to_be_visible()


@pytest.mark.parametrize("fragment", ["", "#", "#t=", "#t=abc", "#t=<b>x</b>", "#other"])
def test_a_broken_link_says_so(
    fragment: str, shared_program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    page = visit().open(f"{shared_program.url}/confirm{fragment}")
    expect(page.get_by_role("status")).to_have_text(re.compile("incomplete|This link is not valid"))
    expect(page.get_by_role("button")).to_have_count(0)
    assert page.url == f"{shared_program.url}/confirm"


def test_another_link_opened_in_the_same_tab_counts(person: Person, visit: Callable[..., Visit]) -> None:
    page = visit().open(f"{person.program.url}/confirm#t=abc")
    expect(page.get_by_role("status")).to_contain_text("incomplete")
    link = link_of(person.sign_up())
    page.evaluate("link => location.assign(link)", link)
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    assert page.url == f"{person.program.url}/confirm"


def test_of_several_sign_ups_the_one_whose_password_is_given_becomes_the_account(
    person: Person, visit: Callable[..., Visit]
) -> None:
    link = link_of(person.sign_up())
    Person(person.program, person.address).sign_up("somebody else's")
    page = visit().open(link)
    page.get_by_role("button", name=CONFIRM).click()
    password = page.get_by_label("Password")
    expect(password).to_be_focused()
    password.press("Enter")  # nothing typed: the browser asks for it
    password.fill("neither of them")
    password.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("No sign-up for this address has this password")
    password.fill(PASSWORD)
    password.press("Enter")
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    assert person.log_in() == 200
    assert person.log_in("somebody else's") == 401


def test_a_service_that_is_away_can_be_tried_again(person: Person, visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.open(link_of(person.sign_up()))
    expect(page.get_by_text("127.0.0.0/24")).to_be_visible()
    here.context.route("**/confirm-email", lambda route: route.abort())
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("status")).to_contain_text("cannot be reached")
    here.context.unroute("**/confirm-email")
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()


def test_the_keyboard_alone_is_enough(person: Person, visit: Callable[..., Visit]) -> None:
    page = visit().open(link_of(person.sign_up()))
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=CONFIRM)).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name=NOT_ME)).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()


@pytest.mark.parametrize(("path", "way"), [("confirm", "six-digit code"), ("not-me", "the sign-up expires")])
def test_without_scripts_the_page_says_how_to_go_on(
    path: str, way: str, shared_program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    page = visit(java_script_enabled=False).open(f"{shared_program.url}/{path}#t=abc")
    expect(page.get_by_text(way)).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize("path", ["confirm", "not-me"])
def test_a_page_fits_the_smallest_phone(
    path: str, shared_program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    page = visit(viewport=PHONE).open(f"{shared_program.url}/{path}#t=abc")
    expect(page.get_by_role("status")).not_to_be_empty()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["confirm", "not-me"])
def test_nothing_bars_anybody(
    path: str, color_scheme: str, person: Person, visit: Callable[..., Visit]
) -> None:
    page = visit(color_scheme=color_scheme).open(link_of(person.sign_up(), path))
    expect(page.get_by_text("127.0.0.0/24")).to_be_visible()
    assert find_barriers(page) == []


def test_a_mail_shows_on_the_smallest_phone_and_loads_nothing(
    person: Person, visit: Callable[..., Visit]
) -> None:
    body = person.sign_up().message.get_body(("html",))
    assert body is not None
    here = visit(viewport=PHONE)
    page = here.context.new_page()
    page.set_content(body.get_content())
    expect(page.get_by_role("link", name="Confirm address")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert here.requests == []


def test_a_link_that_was_cut_or_lost_its_end_says_so_and_offers_the_code(
    person: Person, visit: Callable[..., Visit]
) -> None:
    link = link_of(person.sign_up())
    for cut in (link[:-20], link.partition("#")[0], link.partition("#")[0] + "#t="):
        here = visit()
        page = here.open(cut)
        expect(page.get_by_role("status")).to_contain_text("six-digit code")
        expect(page.get_by_role("link", name="Enter the code")).to_be_visible()
        expect(page.get_by_role("button")).to_have_count(0)
        assert here.posts() == []


@pytest.mark.parametrize("mark", ["%23t=", "%2523t=", "?t="])
def test_a_link_whose_mark_was_escaped_or_moved_confirms(
    mark: str, person: Person, visit: Callable[..., Visit]
) -> None:
    base, _, token = link_of(person.sign_up()).partition("#t=")
    page = visit().open_rewritten(f"{base}{mark}{token}")
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()


def test_what_a_mail_program_took_for_a_part_of_the_link_does_no_harm(
    person: Person, visit: Callable[..., Visit]
) -> None:
    page = visit().open(f"{link_of(person.sign_up())}).")
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
