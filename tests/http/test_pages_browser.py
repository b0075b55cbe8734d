"""What the links in a mail open, in a real browser: it confirms when a person says so, and gives nothing away."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import expect

from tests.databases import run_sql
from tests.services import PASSWORD, Mail, read_mails

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

    from tests.programs import SharedProgram

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

PHONE = {"width": 320, "height": 568}
CONFIRM = "Confirm my address"
CONFIRMED = "Your address is confirmed"
_REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`));
"""


@dataclass
class Person:
    """Somebody with a mailbox who signs up.

    Args:
        program: what they sign up with.
        address: of their own.
    """

    program: SharedProgram
    address: str = field(default_factory=lambda: f"{uuid4()}@example.com")

    def sign_up(self, password: str = PASSWORD) -> Mail:
        """Sign up and return the mail that comes."""
        with httpx.Client(base_url=self.program.url, timeout=60) as client:
            body = {"email": self.address, "password": password, "name": "Ann"}
            answer = client.post("/api/v1/register", json=body)
            url, handle = answer.headers["Location"], answer.headers["Regsvc-Handle"]
            seen = {"state": "", "seq": 0}
            for _ in range(10):
                if seen["state"] == "sent":
                    break
                seen = client.get(f"{url}?wait=5&seq={seen['seq']}", headers={"Regsvc-Handle": handle}).json()
        return read_mails(self.program.folder / "mail", self.address)[-1]

    def log_in(self, password: str = PASSWORD) -> int:
        """Return the status of a log-in."""
        body = {"email": self.address, "password": password}
        return httpx.post(f"{self.program.url}/api/v1/login", json=body, timeout=60).status_code


@dataclass
class Visit:
    """A browser of its own, and what it was seen doing."""

    context: BrowserContext
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(10_000)
        self.context.add_init_script(_REPORT_VIOLATIONS)
        self.context.on("request", self._note_request)
        self.context.on("console", self._note)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def open(self, url: str) -> Page:
        """Open an address in a new tab."""
        page = self.context.new_page()
        page.goto(url)
        return page

    def posts(self) -> list[str]:
        """Return the paths that something was posted to."""
        return [httpx.URL(request.url).path for request in self.requests if request.method == "POST"]

    def _note_request(self, request: Request) -> None:
        self.requests.append(request)

    def _note(self, message: ConsoleMessage) -> None:
        # Chromium reports an answer of 4xx as an error; the page shows it.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)


@pytest.fixture
def person(shared_program: SharedProgram) -> Person:
    return Person(shared_program)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens browsers; whatever they did, none gave a token away or broke a rule of its page."""
    visits: list[Visit] = []

    def begin(**options: Any) -> Visit:
        visits.append(Visit(browser.new_context(**options)))
        return visits[-1]

    yield begin
    for each in visits:
        assert each.complaints == []
        for request in each.requests:
            told = f"{request.url.partition('#')[0]} {request.headers.get('referer', '')}"
            assert not re.search(r"[A-Za-z0-9_-]{40,}", told), told
        each.context.close()


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
    assert here.posts() == []
    assert person.log_in() == 401
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("log in now")
    expect(page.get_by_role("button")).to_have_count(0)
    assert here.posts() == ["/api/v1/confirm-email"]
    assert person.log_in() == 200


def test_a_reload_loses_neither_the_link_nor_the_outcome(person: Person, visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.open(link_of(person.sign_up()))
    page.reload()
    page.get_by_role("button", name=CONFIRM).dblclick()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()
    assert len(here.posts()) == 1


def test_a_second_press_elsewhere_gets_the_same_answer(person: Person, visit: Callable[..., Visit]) -> None:
    link = link_of(person.sign_up())
    for _ in range(2):
        page = visit().open(link)
        page.get_by_role("button", name=CONFIRM).click()
        expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()


def test_saying_that_it_was_somebody_else_voids_the_sign_up(
    person: Person, visit: Callable[..., Visit]
) -> None:
    mail = person.sign_up()
    page = visit().open(link_of(mail))
    page.get_by_role("link", name="This was not me").click()
    expect(page.get_by_role("heading", name="This was not me")).to_be_visible()
    assert page.url == f"{person.program.url}/not-me"
    page.go_back()
    expect(page.get_by_role("button", name=CONFIRM)).to_be_visible()
    page.goto(link_of(mail, "not-me"))
    page.get_by_role("button", name="Void this sign-up").click()
    expect(page.get_by_role("heading", name="The sign-up is void")).to_be_visible()
    page.goto(link_of(mail))
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("status")).to_contain_text("no longer valid")


def test_who_clicked_not_me_by_mistake_can_still_confirm(person: Person, visit: Callable[..., Visit]) -> None:
    page = visit().open(link_of(person.sign_up(), "not-me"))
    page.get_by_role("link", name="It was me").click()
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()


def test_a_link_that_is_too_old_says_so_and_offers_no_button(
    person: Person, visit: Callable[..., Visit]
) -> None:
    link = link_of(person.sign_up())
    run_sql(
        person.program.environ["REGSVC_DATABASE_URL"],
        f"UPDATE registrations SET expires_at = now() - interval '1 s' WHERE email = '{person.address}'",
    )
    page = visit().open(link)
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("status")).to_contain_text("no longer valid")
    expect(page.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize("fragment", ["", "#", "#t=", "#t=abc", "#t=<b>x</b>", "#other"])
def test_a_broken_link_says_so(
    fragment: str, shared_program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    page = visit().open(f"{shared_program.url}/confirm{fragment}")
    button = page.get_by_role("button", name=CONFIRM)
    if button.is_visible():
        button.click()
    expect(page.get_by_role("status")).to_have_text(re.compile("incomplete|not one of ours"))
    expect(page.get_by_role("button")).to_have_count(0)
    assert page.url == f"{shared_program.url}/confirm"


def test_another_link_opened_in_the_same_tab_counts(person: Person, visit: Callable[..., Visit]) -> None:
    page = visit().open(f"{person.program.url}/confirm#t=abc")
    page.get_by_role("button", name=CONFIRM).click()
    expect(page.get_by_role("status")).to_contain_text("not one of ours")
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
    expect(page.get_by_role("link", name="This was not me")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=CONFIRMED)).to_be_visible()


@pytest.mark.parametrize(("path", "way"), [("confirm", "six-digit code"), ("not-me", "ends by itself")])
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
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


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
