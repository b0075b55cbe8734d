"""Signing up in a real browser: typed, checked, sent, followed, and handed over from the phone to the laptop."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from tests.databases import run_sql
from tests.services import PASSWORD
from tests.visits import PHONE, Person, Visit, find_barriers

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

INBOX = "Check your inbox"
CONFIRMED = "Your address is confirmed"


def fill_in(page: Page, person: Person, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill("Ann")
    page.get_by_label("Email address").first.fill(person.address)
    page.get_by_label("Password", exact=True).fill(password)


def sign_up(here: Visit, person: Person) -> Page:
    """Sign up, and wait until the mail server has the mail."""
    page = here.open(f"{person.program.url}/signup")
    fill_in(page, person)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name=INBOX)).to_be_visible()
    expect_steps(page, ["done", "done", "done", ""])
    return page


def expect_steps(page: Page, marks: list[str]) -> None:
    for step, mark in zip(page.get_by_role("listitem").all(), marks, strict=True):
        expect(step).to_have_attribute("data-mark", mark)


def press_link(person: Person, page: Page) -> None:
    found = re.search(r"^\S+/confirm#t=\S+$", person.mail().text, re.MULTILINE)
    assert found
    page.goto(found[0])
    page.get_by_role("button", name="Confirm my address").click()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()


def move_to(person: Person, state: str, **values: str) -> None:
    """Have the sign-up be in a state that no mail server here brings about."""
    columns = "".join(f", {name} = {value}" for name, value in values.items())
    run_sql(
        person.program.environ["REGSVC_DATABASE_URL"],
        f"UPDATE registrations SET state = '{state}', seq = seq + 1{columns} WHERE email = '{person.address}'",
        "SELECT pg_notify('registration_state', id || ':' || seq) FROM registrations "
        f"WHERE email = '{person.address}'",
    )


def test_pressed_on_the_phone_the_laptop_goes_on_by_itself(
    person: Person, visit: Callable[..., Visit]
) -> None:
    laptop, phone = visit(), visit(viewport=PHONE, has_touch=True)
    page = sign_up(laptop, person)
    expect(page.locator("#lead")).to_contain_text(f"We sent an email to {person.address}")
    press_link(person, phone.context.new_page())
    page.wait_for_url("**/account")
    expect(page.get_by_role("heading", name="Your account")).to_be_visible()
    expect(page.get_by_text(person.address)).to_be_visible()
    cookie = next(it for it in laptop.context.cookies() if it["name"] == "regsvc-session")
    log = (person.program.folder / "program.log").read_text()
    assert '"path": "/account"' in log
    for secret in (person.mail().token, person.mail().code, PASSWORD, cookie["value"]):
        assert secret not in log


def test_the_code_confirms_typed_or_pasted(person: Person, visit: Callable[..., Visit]) -> None:
    page = sign_up(visit(), person)
    code = page.get_by_label("Six-digit code")
    assert code.get_attribute("autocomplete") == "one-time-code"
    right = person.mail().code
    wrong = f"{(int(right) + 1) % 1_000_000:06d}"
    code.press_sequentially(wrong)
    code.press("Enter")
    expect(page.get_by_text("This code is wrong")).to_be_visible()
    expect(code).to_be_focused()
    page.evaluate(
        """text => { const code = document.getElementById("code"); code.value = text;
           code.dispatchEvent(new InputEvent("input", { inputType: "insertFromPaste" })); }""",
        f"{right[:3]} {right[3:]}",
    )
    page.wait_for_url("**/account")
    assert person.log_in() == 200


def test_six_digits_are_sent_as_soon_as_they_stand_there_in_any_notation(
    person: Person, visit: Callable[..., Visit]
) -> None:
    page = sign_up(visit(), person)
    right = person.mail().code
    full_width = "".join(chr(ord("\uff10") + int(digit)) for digit in right[:3])
    page.get_by_label("Six-digit code").press_sequentially(f"{full_width}-{right[3:5]} {right[5]}")
    page.wait_for_url("**/account")


def test_the_mailbox_is_one_press_away_and_its_absence_is_explained(
    person: Person, visit: Callable[..., Visit]
) -> None:
    page = sign_up(visit(), Person(person.program, f"{uuid4()}@gmail.com"))
    link = page.get_by_role("link", name="Open Gmail")
    expect(link).to_have_attribute(
        "href", re.compile(r"^https://mail\.google\.com/.*@gmail\.com/#search/from")
    )
    expect(link).to_have_attribute("rel", re.compile("noreferrer"))
    expect(page.locator("#nothing")).to_contain_text("The mail server of gmail.com took it at")
    assert find_barriers(page) == []
    page = sign_up(visit(viewport=PHONE), person)
    expect(page.get_by_role("link", name="Open")).to_have_count(0)


def test_a_slip_is_noticed_while_it_is_typed_and_mended_by_one_press(
    person: Person, visit: Callable[..., Visit]
) -> None:
    page = visit().open(f"{person.program.url}/signup")
    page.get_by_label("Email address").first.fill("Ann.Lee@gmial.com")
    page.get_by_label("Name").focus()
    expect(page.locator("#email-advice")).to_contain_text("Did you mean Ann.Lee@gmail.com?")
    assert find_barriers(page) == []
    page.get_by_role("button", name="Use this address").press("Enter")
    expect(page.get_by_label("Email address").first).to_have_value("Ann.Lee@gmail.com")
    expect(page.locator("#email-advice")).to_be_hidden()


def test_a_reload_finds_its_place_and_no_password_is_kept(
    person: Person, visit: Callable[..., Visit]
) -> None:
    here = visit()
    page = sign_up(here, person)
    page.reload()
    expect(page.get_by_role("heading", name=INBOX)).to_be_visible()
    expect_steps(page, ["done", "done", "done", ""])
    kept = page.evaluate("JSON.stringify([sessionStorage, localStorage, document.cookie, history.state])")
    assert person.address in kept
    assert PASSWORD not in kept
    press_link(person, visit().context.new_page())
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    expect(page.locator("#lead")).to_contain_text("You can log in now")
    expect(page.get_by_role("link", name="Log in")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Create an account")).to_be_visible()


def test_what_is_typed_is_judged_as_the_api_judges_it(person: Person, visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.open(f"{person.program.url}/signup")
    fill_in(page, Person(person.program, "ann@"), "short")
    page.get_by_label("Name").focus()
    expect(page.locator("#email-fault")).to_contain_text("Enter a valid email address")
    expect(page.locator("#password-fault")).to_contain_text("at least 8")
    expect(page.get_by_text("Very weak")).to_be_visible()
    fill_in(page, person, person.address)
    page.get_by_label("Name").focus()
    expect(page.locator("#email-fault")).to_be_hidden()
    expect(page.locator("#password-fault")).to_contain_text("cannot be your email address")
    fill_in(page, person)
    expect(page.get_by_text("Very strong")).to_be_visible()
    expect(page.locator("#password-fault")).to_be_hidden()


def test_nobody_is_told_off_for_what_they_have_not_come_to_yet(
    person: Person, visit: Callable[..., Visit]
) -> None:
    page = visit().open(f"{person.program.url}/signup")
    with page.expect_response("**/signup/check"):
        page.get_by_label("Name").press_sequentially("An")
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    page.get_by_role("button", name="Create account").click()
    expect(page.locator("#email-fault")).to_have_text("Enter your email address.")
    expect(page.get_by_label("Email address").first).to_be_focused()


def test_the_keyboard_alone_signs_up(person: Person, visit: Callable[..., Visit]) -> None:
    page = visit().open(f"{person.program.url}/signup")
    for text in ("Ann", person.address, PASSWORD):
        page.keyboard.press("Tab")
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=INBOX)).to_be_focused()
    person.mail()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Six-digit code")).to_be_focused()
    page.keyboard.type(person.mail().code)
    page.keyboard.press("Enter")
    page.wait_for_url("**/account")


def test_a_broken_connection_is_said_and_pressing_again_goes_on(
    person: Person, visit: Callable[..., Visit]
) -> None:
    here = visit()
    page = here.open(f"{person.program.url}/signup")
    fill_in(page, person)
    here.context.route("**/register", lambda route: route.abort())
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    here.context.unroute("**/register")
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("heading", name=INBOX)).to_be_visible()


def test_without_websockets_long_polls_move_the_steps(person: Person, visit: Callable[..., Visit]) -> None:
    here = visit()
    here.context.route_web_socket("**/live", lambda socket: socket.close(code=1011))
    page = sign_up(here, person)
    press_link(person, visit().context.new_page())
    page.wait_for_url("**/account")


def test_a_websocket_that_brings_nothing_gives_way_to_long_polls(
    person: Person, visit: Callable[..., Visit]
) -> None:
    """A proxy takes it and swallows what goes through; the page neither waits for ever nor tries again and again."""
    here, opened = visit(), []
    here.context.route_web_socket("**/live", lambda socket: opened.append(socket.url))
    page = sign_up(here, person)
    press_link(person, visit().context.new_page())
    page.wait_for_url("**/account")
    assert len(opened) == 1


def test_a_mail_that_waits_says_why_and_until_when(person: Person, visit: Callable[..., Visit]) -> None:
    page = sign_up(visit(), person)
    move_to(person, "delayed", reason="'mailbox_full'", next_try_at="now() + interval '5 minutes'")
    expect(page.locator("#lead")).to_contain_text(
        "The mailbox is full. We will try again automatically. Next attempt:"
    )
    expect_steps(page, ["done", "trouble", "", ""])


def test_a_mistyped_address_is_mended_where_the_mail_bounced(
    person: Person, visit: Callable[..., Visit]
) -> None:
    page = sign_up(visit(), Person(person.program, f"typo-{person.address}"))
    move_to(Person(person.program, f"typo-{person.address}"), "bounced", reason="'recipient_refused'")
    expect(page.locator("#lead")).to_contain_text("does not know this address")
    field = page.get_by_label("Email address").last
    field.fill("no address")
    field.press("Enter")
    expect(page.locator("#new-email-fault")).to_contain_text("Enter a valid email address")
    field.fill(person.address)
    field.press("Enter")
    expect(page.locator("#lead")).to_contain_text(f"We sent an email to {person.address}")
    press_link(person, visit().context.new_page())
    page.wait_for_url("**/account")


def test_a_sign_up_that_was_voided_ends_here_too(person: Person, visit: Callable[..., Visit]) -> None:
    page = sign_up(visit(), person)
    phone = visit().open(re.findall(r"^\S+/not-me#t=\S+$", person.mail().text, re.MULTILINE)[0])
    phone.get_by_role("button", name="Cancel the sign-up").click()
    expect(page.locator("#lead")).to_contain_text("reported that they did not sign up")
    expect(page.get_by_role("button")).to_have_count(0)
    page.get_by_role("link", name="Start again").click()
    expect(page.get_by_role("heading", name="Create an account")).to_be_visible()


def test_the_mail_can_be_had_again(person: Person, visit: Callable[..., Visit]) -> None:
    page = sign_up(visit(), person)
    page.get_by_role("button", name="Resend the email").click()
    expect(page.get_by_text("A new email is on its way.")).to_be_visible()


def test_without_scripts_the_forms_do(person: Person, visit: Callable[..., Visit]) -> None:
    page = visit(java_script_enabled=False).open(f"{person.program.url}/signup")
    fill_in(page, person, "short")
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_text("Use at least 8 characters.")).to_be_visible()
    fill_in(page, person)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_text(f"We sent an email to {person.address}")).to_be_visible()
    expect_steps(page, ["done", "done", "done", ""])
    page.get_by_label("Six-digit code").fill("0")
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("alert")).to_contain_text("This code is wrong")
    page.get_by_label("Six-digit code").fill(person.mail().code)
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    assert person.log_in() == 200


def test_without_scripts_an_address_is_mended_too(person: Person, visit: Callable[..., Visit]) -> None:
    page = visit(java_script_enabled=False).open(f"{person.program.url}/signup")
    fill_in(page, Person(person.program, f"typo-{person.address}"))
    page.get_by_role("button", name="Create account").click()
    page.get_by_text("Wrong address?").click()
    page.get_by_label("Email address").fill(person.address)
    page.get_by_role("button", name="Send to this address").click()
    expect(page.get_by_text(f"We sent an email to {person.address}")).to_be_visible()
    page.get_by_role("button", name="Resend the email").click()
    expect(page.get_by_role("heading", name=INBOX)).to_be_visible()


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_nothing_bars_anybody(color_scheme: str, person: Person, visit: Callable[..., Visit]) -> None:
    here = visit(color_scheme=color_scheme)
    page = here.open(f"{person.program.url}/signup")
    assert find_barriers(page) == []
    fill_in(page, Person(person.program, "ann@"), "short")
    page.get_by_label("Name").focus()
    expect(page.get_by_text("Very weak")).to_be_visible()
    assert find_barriers(page) == []
    page = sign_up(here, person)
    page.get_by_text("Wrong address?").click()
    assert find_barriers(page) == []
    move_to(person, "bounced", reason="'recipient_refused'")
    expect(page.locator("#lead")).to_contain_text("does not know this address")
    assert find_barriers(page) == []


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_nothing_bars_anybody_without_scripts(
    color_scheme: str, person: Person, visit: Callable[..., Visit]
) -> None:
    """What finds barriers is a script itself: it looks at the page that the others led to."""
    bare = visit(java_script_enabled=False)
    page = bare.open(f"{person.program.url}/signup")
    fill_in(page, person)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_text(f"We sent an email to {person.address}")).to_be_visible()
    here = visit(color_scheme=color_scheme, viewport=PHONE, storage_state=bare.context.storage_state())
    page = here.open(f"{person.program.url}/signup/status")
    expect(page.get_by_text(f"We sent an email to {person.address}")).to_be_visible()
    assert find_barriers(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_everything_fits_the_smallest_phone_and_twice_the_size(
    person: Person, visit: Callable[..., Visit]
) -> None:
    small = {"width": PHONE["width"] // 2, "height": 400}  # CSS pixels that 200 % leaves of it
    for viewport in (PHONE, small):
        page = visit(viewport=viewport).open(f"{person.program.url}/signup")
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page = sign_up(visit(viewport=PHONE), person)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>", "{{ 7*7 }}", "';alert(1)//", "{email} {brand}"]
)
def test_what_is_typed_stays_text(name: str, person: Person, visit: Callable[..., Visit]) -> None:
    here = visit(java_script_enabled=False)
    page = here.open(f"{person.program.url}/signup")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Email address").first.fill(f'"><script>alert(1)</script>@{uuid4()}')
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_label("Name")).to_have_value(name)
    expect(page.get_by_label("Email address").first).to_have_value(re.compile("<script>alert"))
    expect(page.locator("img, #signup script")).to_have_count(0)


def test_a_bounce_opens_the_form_with_the_address_in_it(person: Person, visit: Callable[..., Visit]) -> None:
    """The page says why, most often one letter is wrong, and the corrected address gets the next mail."""
    page = sign_up(visit(), person)
    move_to(person, "bounced", reason="'no_such_mailbox'", bounce_kind="'hard'")
    expect(page.locator("#lead")).to_contain_text("does not know this address")
    field = page.locator("#new-email")
    expect(field).to_be_visible()
    expect(field).to_have_value(person.address)
    right = f"right-{person.address}"
    field.fill(right)
    field.press("Enter")
    expect(page.locator("#lead")).to_contain_text(f"We sent an email to {right}")
    expect_steps(page, ["done", "done", "done", ""])


def test_a_delivery_is_shown_and_takes_nothing_back(person: Person, visit: Callable[..., Visit]) -> None:
    page = sign_up(visit(), person)
    before = page.locator("#lead").text_content()
    move_to(person, "sent", delivered_at="now()")
    expect(page.locator("#lead")).not_to_have_text(before or "")
    expect(page.locator("#lead")).to_contain_text(person.address)
    expect_steps(page, ["done", "done", "done", ""])
