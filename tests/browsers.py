"""The fixture that gives a test a browser.

`browser` is a headless Chromium, driven by Playwright, started once a module. Where it comes from, in this order:
the program that REGSVC_TEST_CHROMIUM names; one installed here; Debian's package (installed when root); else the
test is skipped, or fails with CI=true.

Playwright's synchronous interface keeps an asyncio loop running in this thread while it is open, so a module
that uses it has plain synchronous tests, and the server they look at is a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing of the browser's own talks to the network; root has no sandbox.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a Chromium with a profile of its own; make contexts of it, they are as apart as two people's."""
    program = _find() or _install() or _do_without()
    # Playwright needs asyncio's own event loop; trio-asyncio steps aside for a policy that somebody set.
    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=program, headless=True, args=_FLAGS)
            yield chromium
            chromium.close()
    finally:
        asyncio.set_event_loop_policy(None)


def _find() -> str | None:
    return os.environ.get("REGSVC_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


def _install() -> str | None:
    """Install Debian's package; a container's list of packages is often old or absent."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    subprocess.run(
        ["sh", "-c", "apt-get update && apt-get install -y --no-install-recommends chromium"],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=900,
        check=False,
    )
    return _find()


def _do_without() -> str:
    reason = "no browser here: install chromium or set REGSVC_TEST_CHROMIUM"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
