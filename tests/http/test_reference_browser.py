"""The page about the API in a real browser: on a phone, without scripts, for everybody."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.visits import PHONE, Visit, find_barriers

if TYPE_CHECKING:
    from tests.programs import SharedProgram

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_can_be_read_on_a_phone_and_by_everybody(
    visit: Callable[..., Visit], shared_program: SharedProgram, colours: str
) -> None:
    reader = visit(viewport=PHONE, color_scheme=colours)
    page = reader.open(f"{shared_program.url}/docs")
    page.get_by_role("navigation").get_by_role("link", name="POST /api/v1/register", exact=True).click()
    assert page.url.endswith("#post_register")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert find_barriers(page) == []
    assert {request.resource_type for request in reader.requests} <= {"document", "stylesheet", "image"}
    assert all(request.url.startswith((shared_program.url, "data:")) for request in reader.requests)
