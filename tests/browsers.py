"""The fixture that gives a test a browser.

`browser` is a headless Chromium, driven by Playwright, started once a module. Where it comes from, in this order:
the program that REGSVC_TEST_CHROMIUM names; one installed here; Debian's package (installed when root); else the
test is skipped, or fails with CI=true.

The headless shell is preferred, as Playwright prefers it: the same engine without the windows, menus and profiles
around it, for which every context of a whole Chromium costs a second of processor time, four times as much.

Playwright's synchronous interface keeps an asyncio loop running in this thread while it is open, so a module
that uses it has plain synchronous tests, and the server they look at is a process of its own.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.suite.packages import do_without, install, is_offered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

_SHELL = "chromium-headless-shell"
_NAMES = (_SHELL, "chromium", "chromium-browser", "google-chrome")
# Nothing of the browser's own talks to the network; root has no sandbox.
LAN_NAME = "accounts.test"  # a name that is not loopback: over plain HTTP its requests have no Fetch Metadata
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    f"--host-resolver-rules=MAP {LAN_NAME} 127.0.0.1",
)


def prepare(config: pytest.Config) -> None:
    """Install a Chromium where there is none, or but a whole one."""
    if os.environ.get("REGSVC_TEST_CHROMIUM") or shutil.which(_SHELL):
        return
    if _find() is None or is_offered(_SHELL):
        install(config, _SHELL)
    if _find() is None:  # a Debian that has no such package
        install(config, "chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a Chromium with a profile of its own; make contexts of it, they are as apart as two people's."""
    program = _find() or do_without("no browser here: install chromium or set REGSVC_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, headless=True, args=_FLAGS)
        yield chromium
        chromium.close()


def _find() -> str | None:
    return os.environ.get("REGSVC_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
