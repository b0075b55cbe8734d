"""People at browsers: who they are, and what their browsers are seen doing.

Whatever a test has a browser do, no token or handle leaves it in an address or a `Referer`, no rule of a page's
policy is broken, and nothing is said on the console.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no types
from playwright.sync_api import expect

from tests.services import PASSWORD, PLAIN, Mail, read_mails

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

    from tests.programs import SharedProgram

PHONE = {"width": 320, "height": 568}
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
        with httpx.Client(base_url=self.program.url, timeout=60, verify=PLAIN) as client:
            body = {"email": self.address, "password": password, "name": "Ann"}
            answer = client.post("/api/v1/register", json=body)
            url, handle = answer.headers["Location"], answer.headers["Regsvc-Handle"]
            seen = {"state": "", "seq": 0}
            for _ in range(10):
                if seen["state"] == "sent":
                    break
                seen = client.get(f"{url}?wait=5&seq={seen['seq']}", headers={"Regsvc-Handle": handle}).json()
        return self.mail()

    def mail(self, *, number: int = 1) -> Mail:
        """Return the newest mail to this address, once there are so many."""
        deadline = time.monotonic() + 20
        while len(found := read_mails(self.program.folder / "mail", self.address)) < number:
            assert time.monotonic() < deadline, "no mail came"
            time.sleep(0.05)
        return found[-1]

    def join(self, password: str = PASSWORD) -> None:
        """Sign up and confirm."""
        token = self.sign_up(password).token
        httpx.post(
            f"{self.program.url}/api/v1/confirm-email", json={"token": token}, timeout=60, verify=PLAIN
        ).raise_for_status()

    def log_in(self, password: str = PASSWORD) -> int:
        """Return the status of a log-in."""
        body = {"email": self.address, "password": password}
        return httpx.post(f"{self.program.url}/api/v1/login", json=body, timeout=60, verify=PLAIN).status_code


@dataclass
class Visit:
    """A browser of its own, and what it was seen doing."""

    context: BrowserContext
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    rewritten: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(20_000)
        self.context.add_init_script(_REPORT_VIOLATIONS)
        self.context.on("request", self._note_request)
        self.context.on("console", self._note)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def open(self, url: str) -> Page:
        """Open an address in a new tab."""
        page = self.context.new_page()
        page.goto(url)
        return page

    def open_rewritten(self, url: str) -> Page:
        """Open an address into whose path or query a mail program moved the token: the page may not tell it further."""
        self.rewritten.add(url)
        return self.open(url)

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
    expect.set_options(timeout=20_000)  # for a busy machine

    def begin(**options: Any) -> Visit:
        visits.append(Visit(browser.new_context(**options)))
        return visits[-1]

    yield begin
    for each in visits:
        assert each.complaints == []
        for request in each.requests:
            address = "" if request.url in each.rewritten else request.url.partition("#")[0]
            told = f"{address} {request.headers.get('referer', '')}"
            assert not re.search(r"[A-Za-z0-9_-]{40,}", told), told
        each.context.close()


def weigh(page: Page) -> int:
    """Return the bytes of a page with all the files that it loaded."""
    return int(page.evaluate(_WEIGH))


_WEIGH = """
    async () => {
        // What a page of before had loaded, too, has no entry of its own; what a script imports has no element.
        const entries = performance.getEntriesByType('resource').map(entry => entry.name);
        const elements = [...document.querySelectorAll('script[src], link[rel=stylesheet], img[src]')];
        const files = [...elements.map(element => element.src || element.href), ...entries];
        const urls = new Set([location.href, ...files.filter(name => name.includes('/static/'))]);
        const bodies = [...urls].map(async url => (await (await fetch(url)).arrayBuffer()).byteLength);
        return (await Promise.all(bodies)).reduce((sum, size) => sum + size, 0);
    }
"""


# Frames are not looked into, since axe-core is in none of them; the browser complains of its calling out to them.
_AXE = {"resultTypes": ["violations"], "iframes": False}


def find_barriers(page: Page) -> list[str]:
    """Return what would keep somebody from using a page, as axe-core finds it: serious and critical rules."""
    return _run_axe(page, {"serious", "critical"})


def find_flaws(page: Page) -> list[str]:
    """Return what axe-core finds at all but trifles: the order of headings, landmarks and names, too."""
    return _run_axe(page, {"moderate", "serious", "critical"})


def _run_axe(page: Page, impacts: set[str]) -> list[str]:
    found = Axe().run(page, options=_AXE).response["violations"]
    return [
        f"{rule['id']}: {[node['html'][:200] for node in rule['nodes']]}"
        for rule in found
        if rule["impact"] in impacts
    ]
