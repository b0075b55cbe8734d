"""A page of another site calls the API from a real browser, which asks the service whether it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.programs import ALLOWED_ORIGIN
from tests.services import PASSWORD

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.programs import SharedProgram

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)

SIGN_UP = """
async ([url, body]) => {
  try {
    const answer = await fetch(url + "/api/v1/register", {
      method: "POST",
      headers: {"Content-Type": "application/json", "Idempotency-Key": "one", "Prefer": "respond-async"},
      body: JSON.stringify(body),
    });
    const handle = answer.headers.get("Regsvc-Handle");
    const shown = await fetch(url + answer.headers.get("Location"), {headers: {"Regsvc-Handle": handle}});
    return [answer.status, shown.status];
  } catch (error) {
    return [error.name];
  }
}
"""


@pytest.mark.parametrize(
    ("origin", "outcome"), [(ALLOWED_ORIGIN, [201, 200]), ("http://evil.localhost", ["TypeError"])]
)
def test_a_listed_page_signs_somebody_up_and_another_cannot(
    browser: Browser, shared_program: SharedProgram, origin: str, outcome: list[Any]
) -> None:
    page = browser.new_context(permissions=["local-network-access"]).new_page()
    page.route(f"{origin}/**", lambda route: route.fulfill(content_type="text/html", body="<h1>A shop</h1>"))
    page.goto(f"{origin}/")
    body = {"email": f"{uuid4()}@example.com", "password": PASSWORD, "name": "Ann"}
    assert page.evaluate(SIGN_UP, [shared_program.url, body]) == outcome
    page.context.close()
