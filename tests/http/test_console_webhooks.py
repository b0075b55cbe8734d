"""The console's webhooks, with and without scripts: everything that an administrator does about them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from playwright.sync_api import Page, expect
from standardwebhooks import Webhook

from tests.databases import run_sql
from tests.http.consoles import log_in, set_role
from tests.services import PASSWORD
from tests.visits import PHONE, Person, Visit, find_barriers, weigh

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)
OWN = {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Receiver:
    """What takes a webhook's requests.

    Args:
        statuses: what it answers, one request after the other; then 204.
    """

    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append((body, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(found.statuses.pop(0) if found.statuses else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def admin(person: Person) -> Person:
    person.join()
    set_role(person, "admin")
    return person


def prove(page: Page) -> None:
    """Prove to be there; the page comes back by itself."""
    page.get_by_role("link", name="Prove that it is you").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")


def add(page: Page, admin: Person, url: str, *types: str) -> str:
    """Add a webhook by keyboard; return its secret. The page of the webhook is open then."""
    page.goto(f"{admin.program.url}/admin")
    page.get_by_role("link", name="Webhooks").click()
    prove(page)
    page.get_by_label("URL").fill("ftp://example.org/")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("http:// or https://")
    page.get_by_label("URL").fill(url)
    page.get_by_label("Name").fill(f"tests of {admin.address}")
    for kind in types:
        page.get_by_label(kind, exact=True).check()
    page.get_by_label("URL").press("Enter")
    secret = page.get_by_label("Secret", exact=True).text_content() or ""
    page.get_by_role("link", name="I have copied it").click()
    return secret.strip()


def wait_first(page: Page, state: str) -> None:
    """Read the page again until the newest delivery is in a state."""
    first = page.locator("tbody tr").first
    for _ in range(100):
        if first.locator("[data-state]").count() and first.locator("[data-state]").text_content() == state:
            return
        page.wait_for_timeout(100)
        page.reload()
    raise AssertionError(first.text_content())


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_webhook_from_its_first_event_to_its_end(
    admin: Person, receiver: Receiver, visit: Callable[..., Visit], *, scripts: bool
) -> None:
    receiver.statuses[:] = [503]
    page = log_in(visit(java_script_enabled=scripts), admin)
    secret = add(page, admin, receiver.url, "user.deleted")
    expect(page.get_by_text("in use")).to_be_visible()
    # The notice comes beside the mail of the sign-up: every administrator hears of it.
    assert "webhook was added" in admin.mail(number=2).text

    page.get_by_role("button", name="Send a test event").click()
    wait_first(page, "delayed")
    row = page.locator("tbody tr").first
    expect(row).to_contain_text("webhook.test")
    expect(row).to_contain_text("status 503")
    expect(page.get_by_text("failing", exact=True)).to_be_visible()
    page.get_by_role("button", name="Send again: webhook.test").click()
    wait_first(page, "delivered")
    body, headers = receiver.requests[-1]
    Webhook(secret).verify(body, headers)
    assert headers["webhook-id"] == receiver.requests[0][1]["webhook-id"]

    page.get_by_role("button", name="Make a new secret").click()
    newer = (page.get_by_label("Secret", exact=True).text_content() or "").strip()
    assert newer != secret
    page.get_by_role("link", name="I have copied it").click()
    assert newer not in page.content()
    page.get_by_role("button", name="Send a test event").click()
    wait_first(page, "delivered")
    for each in (secret, newer):
        Webhook(each).verify(*receiver.requests[-1])

    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_text("disabled (administrator)")).to_be_visible()
    expect(page.get_by_role("button", name="Send a test event")).to_have_count(0)
    page.get_by_role("button", name="Enable").click()
    expect(page.get_by_text("in use")).to_be_visible()
    page.get_by_label("Events of").select_option("the last hour")
    page.get_by_role("button", name="Send again").first.click()
    expect(page.locator("[role=alert]")).to_have_text("")
    page.get_by_role("link", name="Given up").click()
    expect(page.get_by_text("No deliveries found.")).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("ended (removed)")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_its_pages_bar_nobody(
    color_scheme: str, admin: Person, receiver: Receiver, visit: Callable[..., Visit]
) -> None:
    page = log_in(visit(color_scheme=color_scheme, viewport=PHONE), admin)

    def check() -> None:
        assert 10_000 < weigh(page) <= 60_000
        assert find_barriers(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    page.goto(f"{admin.program.url}/admin/webhooks")
    prove(page)
    expect(page.get_by_label("URL")).to_be_visible()
    check()
    page.get_by_label("URL").fill(receiver.url)
    page.get_by_label("user.deleted").check()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Secret", exact=True)).to_be_visible()
    check()
    page.get_by_role("link", name="I have copied it").click()
    page.get_by_role("button", name="Send a test event").press("Enter")
    wait_first(page, "delivered")
    check()
    page.get_by_role("button", name="Remove").click()


def test_without_a_proof_nothing_is_done_and_the_proof_leads_back(admin: Person) -> None:
    with httpx.Client(base_url=admin.program.url, timeout=60) as client:
        client.post("/login", data={"email": admin.address, "password": PASSWORD}, headers=OWN)
        made = client.post("/admin/webhooks", data={"url": "https://example.org/"}, headers=OWN)
        assert (made.status_code, made.headers["Location"]) == (303, "/account/proof?for=webhooks")
        one = "/admin/webhooks/00000000-0000-4000-8000-000000000000"
        for deed in ("rotate", "test", "replay", "disable", "enable", "remove"):
            answer = client.post(f"{one}/{deed}", data={"x": ""}, headers=OWN)
            assert answer.headers["Location"] == f"/account/proof?for=webhook-{one.rpartition('/')[2]}"
        proof = client.post(answer.headers["Location"], data={"password": PASSWORD}, headers=OWN)
        assert proof.headers["Location"] == one
        away = client.post(
            "/account/proof?for=webhook-//evil.example", data={"password": PASSWORD}, headers=OWN
        )
        assert away.headers["Location"] == "/account/security"
        assert client.get(one).status_code == 404


def test_deliveries_are_listed_in_pages(admin: Person, visit: Callable[..., Visit]) -> None:
    """Sixty deliveries to a webhook that has ended, every third of them given up."""
    database = admin.program.environ["REGSVC_DATABASE_URL"]
    run_sql(
        database,
        f"""
        WITH sink AS (
            INSERT INTO event_sinks (kind, name, url, sealed, sealed_with, ended_at, ended_reason)
            VALUES ('webhook', '{admin.address}', 'https://example.org/', '', '', now(), 'removed') RETURNING id
        ), told AS (
            INSERT INTO events (type, subject_kind, subject, data)
            SELECT 'user.updated', 'user', gen_random_uuid(), '{{}}' FROM generate_series(1, 60)
            RETURNING id, subject, n
        )
        INSERT INTO event_deliveries (sink_id, event_id, subject, n, state, due_at, status)
        SELECT sink.id, told.id, subject, n, CASE WHEN n % 3 = 0 THEN 'dead' ELSE 'delivered' END, NULL, 500
          FROM told, sink
        """,
    )
    page = log_in(visit(), admin)
    page.goto(f"{admin.program.url}/admin/webhooks")
    page.get_by_role("link", name=re.compile(admin.address)).click()
    rows = page.locator("tbody tr")
    for expected in (25, 25, 10):
        expect(rows).to_have_count(expected)
        if expected == 25:
            page.get_by_role("link", name="Older").click()
    page.get_by_role("link", name="Given up").click()
    expect(rows).to_have_count(20)
    expect(page.locator("tbody [data-state=dead]")).to_have_count(20)
