"""Pages and mails in every language on the narrowest phone."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from email.headerregistry import Address
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest

from regsvc.mail.message.languages import list_locales
from regsvc.mail.message.render import Renderer
from regsvc.mail.message.samples import render_samples
from tests.visits import PHONE, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.programs import SharedProgram

PAGES = (
    "signup",
    "login",
    "forgot",
    "confirm#t=abc",
    "not-me#t=abc",
    "reset#t=abc",
    "email-change#t=abc",
    "invite#t=" + "a" * 65,
    "no-such",
)

# Labels and headings of rows of one word, broken all the same.
_BROKEN = """() => [...document.querySelectorAll("th, dt, label, legend")].filter((label) => {
  const lines = new Set();
  const walker = document.createTreeWalker(label, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) lines.add(Math.round(box.top));
  }
  return lines.size > 1 && !/\\s/.test(label.textContent.trim());
}).map((label) => label.textContent.trim())"""


def check(page: Page) -> None:
    """Check that nothing is wider than the screen and no word of a label is broken."""
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate(_BROKEN) == []


@pytest.mark.parametrize("language", list_locales(None))
def test_every_mail_fits(language: str, visit: Callable[..., Visit]) -> None:
    renderer = Renderer(sender=Address(addr_spec="no-reply@example.org"), brand="Example Corporation")
    page = visit(viewport=PHONE).context.new_page()
    for sample in render_samples(renderer, "https://accounts.example.org", language=language):
        message = email.message_from_bytes(sample.source, EmailMessage, policy=email.policy.default)
        body = message.get_body(("html",))
        assert body is not None
        page.set_content(body.get_content())
        check(page)


@pytest.mark.parametrize("language", list_locales(None))
def test_forms_that_ask_for_more_fit(
    language: str, strict_program: SharedProgram, visit: Callable[..., Visit]
) -> None:
    here = visit(
        viewport=PHONE, extra_http_headers={"Accept-Language": language}, java_script_enabled=language != "en"
    )
    page = here.context.new_page()
    for path in ("signup", "login"):
        page.goto(f"{strict_program.url}/{path}")
        check(page)


@pytest.mark.parametrize("language", list_locales(None))
def test_every_page_fits(language: str, shared_program: SharedProgram, visit: Callable[..., Visit]) -> None:
    here = visit(viewport=PHONE, extra_http_headers={"Accept-Language": language})
    page = here.context.new_page()
    for path in PAGES:
        page.goto(f"{shared_program.url}/{path}")
        assert page.evaluate("document.documentElement.lang") == language
        check(page)
