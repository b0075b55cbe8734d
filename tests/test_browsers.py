"""The browser that tests are given is one that runs scripts and forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The first test of a fresh machine may have to install the browser.
pytestmark = pytest.mark.timeout(1200)


def test_a_context_runs_scripts_and_knows_nothing_of_another(browser: Browser) -> None:
    laptop, phone = browser.new_context(), browser.new_context(viewport={"width": 390, "height": 844})
    page = laptop.new_page()
    page.set_content("<title>one</title><script>document.title += ' two'</script>")
    assert page.title() == "one two"
    laptop.add_cookies([{"name": "a", "value": "b", "url": "http://localhost/"}])
    assert phone.cookies() == []
