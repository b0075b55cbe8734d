"""Browsers report what breaks the policy of a page, and no report brings a secret into the log."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.services import Service

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.programs import SharedProgram

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

TYPE = {"Content-Type": "application/csp-report"}


def report(**members: str) -> bytes:
    return json.dumps({"csp-report": members | {"status-code": 200}}).encode()


async def test_a_report_is_logged_without_what_may_be_secret(service: Service) -> None:
    sent = report(
        **{
            "document-uri": f"{service.url}/confirm?t=canary#t=canary",
            "effective-directive": "img-src",
            "blocked-uri": "https://evil.example:8443/canary.png?canary",
        }
    )
    with capture_logs() as said:
        answer = await service.client.post("/policy-reports", content=sent, headers=TYPE)
    assert answer.status_code == 204
    (line,) = [each for each in said if each["event"] == "policy of a page violated"]
    assert (line["page"], line["directive"], line["blocked"]) == (
        "/confirm",
        "img-src",
        "https://evil.example",
    )
    assert "canary" not in repr(said)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"csp-report": 1}', 400),
        (b'{"csp-report": {"blocked-uri": 7}}', 400),
        (b"[" * 10_000, 400),
        (b"{" + b" " * 20_000 + b"}", 413),
    ],
    ids=["nothing", "list", "empty", "number", "type", "deep", "long"],
)
async def test_what_is_no_report_is_refused(service: Service, sent: bytes, status: int) -> None:
    assert (await service.client.post("/policy-reports", content=sent, headers=TYPE)).status_code == status
    other = {"Content-Type": "application/json"}
    assert (await service.client.post("/policy-reports", content=report(), headers=other)).status_code == 415


def test_a_browser_sends_one(browser: Browser, shared_program: SharedProgram) -> None:
    page = browser.new_context().new_page()
    page.goto(f"{shared_program.url}/login")
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://blocked.example/x.png'}))")
    deadline = time.monotonic() + 30
    while not any("blocked.example" in line for line in read_lines(shared_program)):
        assert time.monotonic() < deadline, "no report came"
        time.sleep(0.1)
    page.context.close()


def read_lines(program: SharedProgram) -> list[str]:
    """Return what the program has logged of violated policies."""
    found = [path.read_text("utf-8", "replace") for path in program.folder.glob("*.log")]
    return [line for text in found for line in text.splitlines() if "policy of a page violated" in line]
