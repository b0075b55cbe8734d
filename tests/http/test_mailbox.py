"""The mailbox of `regsvc dev`: what a mail looks like there, and who may look."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from http import HTTPStatus
from uuid import uuid4

import httpx
import pytest
from playwright.sync_api import expect

from tests.programs import SharedProgram
from tests.visits import PHONE, Person, Visit, find_barriers, weigh

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

XSS = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}"


@pytest.fixture
def client(dev_program: SharedProgram) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=dev_program.url, timeout=60) as client:
        yield client


@pytest.fixture
def person(dev_program: SharedProgram) -> Person:
    return Person(dev_program)


def post(program: SharedProgram, message: EmailMessage) -> str:
    """Put a mail into the mailbox and return its name."""
    name = f"{uuid4()}@localhost"
    folder = program.folder / "mail"
    for part in ("new", "cur", "tmp"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "new" / name).write_bytes(message.as_bytes())
    return name


def make_evil() -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = message["X-Odd"] = XSS
    message["To"] = '"<b>" <x@example.com>'
    message.set_content(f"{XSS}\nhttps://evil.example/<script>\n")
    message.add_alternative(
        f"<html><head></head><body onload='document.title=1'>{XSS}<form action=/>"
        "<a href='javascript:alert(1)'>x</a></form></body></html>",
        subtype="html",
    )
    return message


def test_new_mail_appears_by_itself_with_link_and_code_at_hand(
    person: Person, visit: Callable[..., Visit]
) -> None:
    page = visit(permissions=["clipboard-read", "clipboard-write"]).open(f"{person.program.url}/dev/mail")
    code = person.sign_up().code
    page.get_by_role("link", name=person.address).click()
    expect(page.get_by_role("heading", level=2)).to_have_text("Confirm your email address for regsvc")
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("link", name="Confirm address")).to_be_visible()
    page.get_by_role("button", name="Copy code").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == code
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Open /confirm").click()
    opened.value.get_by_role("button", name="Confirm my address").click()
    expect(opened.value.get_by_role("heading", name="Your address is confirmed")).to_be_visible()


def test_the_mails_own_button_opens_the_page_too(person: Person, visit: Callable[..., Visit]) -> None:
    name = person.sign_up().message["Message-ID"].strip("<>")
    page = visit().open(f"{person.program.url}/dev/mail/{name}")
    with page.expect_popup() as opened:
        page.frame_locator("iframe").get_by_role("link", name="Confirm address").click()
    expect(opened.value.get_by_role("button", name="Confirm my address")).to_be_visible()


@pytest.mark.parametrize(
    ("view", "shown"),
    [("Text", "Or enter this code"), ("Headers", "Auto-Submitted"), ("Source", "Content-Type: multipart")],
)
def test_a_mail_is_shown_in_every_way(
    view: str, shown: str, person: Person, visit: Callable[..., Visit]
) -> None:
    person.sign_up()
    page = visit(java_script_enabled=False).open(f"{person.program.url}/dev/mail")
    page.get_by_role("link", name=person.address).click()
    page.get_by_role("link", name=view, exact=True).click()
    expect(page.get_by_text(shown).first).to_be_visible()


def test_whatever_a_mail_says_stays_text_and_runs_nothing(
    dev_program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    name = post(dev_program, make_evil())
    here = visit()
    page = here.open(f"{dev_program.url}/dev/mail/{name}")
    expect(page.get_by_role("heading", level=2)).to_have_text(XSS)
    for view in ("text", "headers", "source"):
        page.goto(f"{dev_program.url}/dev/mail/{name}?view={view}")
        expect(page.get_by_text("<script>alert(1)</script>").last).to_be_visible()
    expect(page.locator("article script, article img")).to_have_count(0)
    assert "onload" in (page.locator("pre").text_content() or "")
    # The frame is told so by its own answer, too: opened alone it runs nothing either.
    alone = httpx.get(f"{dev_program.url}/dev/mail/{name}/html").headers["Content-Security-Policy"]
    assert "default-src 'none'" in alone
    assert "sandbox allow-popups allow-popups-to-escape-sandbox" in alone
    here.context.close()
    here.complaints.clear()  # what the mail tried was refused, and the browser says so
    (dev_program.folder / "mail" / "new" / name).unlink()  # or other tests would meet it, too


@pytest.mark.parametrize(
    "path", ["nothing", "..%2F..%2Fsecret_key", "%2e%2e/secret_key", ".hidden", "a%00b", "x" * 300, "*"]
)
def test_no_other_file_can_be_had(path: str, client: httpx.Client) -> None:
    for view in ("", "/html", "/source"):
        # A path that a proxy could read otherwise is refused before it is looked up.
        crooked = re.search("%2[ef]|%00", path, re.IGNORECASE)
        status = HTTPStatus.BAD_REQUEST if crooked else HTTPStatus.NOT_FOUND
        assert client.get(f"/dev/mail/{path}{view}").status_code == status


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1"]
)
def test_it_answers_to_this_machines_own_names_alone(host: str, client: httpx.Client) -> None:
    for path in ("/dev/mail", "/dev/mail/news", "/dev/mail/x"):
        assert client.get(path, headers={"Host": host}).status_code == HTTPStatus.NOT_FOUND
    assert client.get("/dev/mail", headers={"Host": "localhost"}).status_code == HTTPStatus.OK


def test_it_exists_in_dev_alone(shared_program: SharedProgram) -> None:
    for path in ("/dev/mail", "/dev/mail/news", "/dev/mail/x", "/dev/mail/x/html", "/dev/mail/x/source"):
        assert httpx.get(f"{shared_program.url}{path}").status_code == HTTPStatus.NOT_FOUND


def test_a_newcomer_is_led_to_it(dev_program: SharedProgram, visit: Callable[..., Visit]) -> None:
    page = visit().open(dev_program.url)
    expect(page.get_by_role("listitem")).to_have_count(3)
    assert find_barriers(page) == []
    page.get_by_role("link", name="Open the mailbox").click()
    expect(page.get_by_role("heading", name="Mailbox")).to_be_visible()


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_nothing_bars_anybody(color_scheme: str, person: Person, visit: Callable[..., Visit]) -> None:
    person.sign_up()
    page = visit(color_scheme=color_scheme, viewport=PHONE).open(f"{person.program.url}/dev/mail")
    expect(page.frame_locator("iframe").get_by_role("link", name="Confirm address")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert 10_000 < weigh(page) <= 60_000
    assert find_barriers(page) == []
    for view in ("text", "headers", "source"):
        page.goto(f"{person.program.url}/dev/mail?view={view}")
        assert find_barriers(page) == []
