"""The pages as they are answered: who may load what, what is kept, and how little it is."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.services import Service, run_test_service

_LINK = ["link", "api", "passkeys", "strength", "token", "words"]
SCRIPTS = {
    "/confirm": _LINK,
    "/email-change": _LINK,
    "/email-not-me": _LINK,
    "/email-undo": _LINK,
    "/forgot": [],
    "/login/code": [],
    "/login": ["login", "api", "passkeys", "words"],
    "/not-me": _LINK,
    "/panic": _LINK,
    "/reset": _LINK,
    "/signup": ["signup", "inbox", "waiting", "advice", "live", "api", "passkeys", "strength", "words"],
}
PAGES = list(SCRIPTS)
FILES = [
    "/static/style.css",
    "/static/brand.css",
    *sorted({f"/static/{name}.js" for names in SCRIPTS.values() for name in names}),
]


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_loads_only_its_own_files_and_is_kept_nowhere(
    page: str, shared_service: Service
) -> None:
    answer = await shared_service.client.get(page)
    assert answer.status_code == HTTPStatus.OK
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    # A form's own origin is sent with it; a page that a token opens tells nobody where it is.
    policy = "same-origin" if 'method="post"' in answer.text else "no-referrer"
    assert answer.headers["Referrer-Policy"] == policy
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    rules = dict(
        rule.strip().partition(" ")[::2] for rule in answer.headers["Content-Security-Policy"].split(";")
    )
    assert (
        rules.items()
        >= {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "form-action": "'self'" if 'method="post"' in answer.text else "'none'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }.items()
    )
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert set(re.findall(r'(?:src|href)="([^"]+)"', answer.text)) <= {
        *FILES,
        *PAGES,
        "/signup/status",
        "data:,",
    }
    assert not re.search(r"<script>|<style|style=|\son\w+=", answer.text)


@pytest.mark.parametrize("path", [*PAGES, *FILES])
async def test_head_is_answered_as_get_without_a_body(path: str, shared_service: Service) -> None:
    whole, head = [await shared_service.client.request(method, path) for method in ("GET", "HEAD")]
    assert (head.status_code, head.content) == (HTTPStatus.OK, b"")
    for name in ("Content-Type", "Content-Length", "Cache-Control", "Content-Security-Policy"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_with_all_its_files_is_at_most_60_kb(page: str, shared_service: Service) -> None:
    files = [page, *FILES[:2], *(f"/static/{name}.js" for name in SCRIPTS[page])]
    weights = {path: len((await shared_service.client.get(path)).content) for path in files}
    assert sum(weights.values()) <= 60_000, weights


@pytest.mark.parametrize("page", PAGES)
async def test_a_pages_scripts_load_no_others(page: str, shared_service: Service) -> None:
    seen: set[str] = set()
    waiting = SCRIPTS[page][:1]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        text = (await shared_service.client.get(f"/static/{name}.js")).text
        waiting += {*re.findall(r'from "\./(\w+)\.js"', text)} - seen
        assert text.count("import ") == len(re.findall(r'import .*? from "\./\w+\.js";', text)), text
    assert seen == set(SCRIPTS[page])


async def test_files_are_revalidated_and_not_sent_twice(shared_service: Service) -> None:
    first = await shared_service.client.get("/static/link.js")
    assert "max-age=0" in first.headers["Cache-Control"]
    again = await shared_service.client.get(
        "/static/link.js", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (again.status_code, again.content) == (HTTPStatus.NOT_MODIFIED, b"")


@pytest.mark.parametrize(
    "path",
    ["/static/", "/static/../page.py", "/static/%2e%2e/page.py", "/static//etc/passwd", "/static/x.css"],
)
async def test_nothing_but_the_pages_files_can_be_had(path: str, shared_service: Service) -> None:
    answer = await shared_service.client.get(path)
    # A path that a proxy could read otherwise is refused before it is looked up.
    refused = HTTPStatus.BAD_REQUEST if "%2e" in path or "//" in path else HTTPStatus.NOT_FOUND
    assert answer.status_code == refused
    assert answer.json()["code"] in {"not_found", "bad_request"}


async def test_the_services_address_leads_to_the_account(shared_service: Service) -> None:
    """Mails name it. In `dev` it shows newcomers around instead."""
    answer = await shared_service.client.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (HTTPStatus.SEE_OTHER, "/account")


async def test_the_operators_name_colour_and_picture_are_on_the_pages(database: str, tmp_path: Path) -> None:
    brand = {
        "REGSVC_BRAND_NAME": "Bread & Butter <Ltd>",
        "REGSVC_BRAND_COLOR": "#ffcc00",
        "REGSVC_BRAND_LOGO": "https://pictures.example:8443/logo.png?a=1&b=2",
    }
    async with run_test_service(database, tmp_path, brand) as service:
        page = await service.client.get("/confirm")
        style = await service.client.get("/static/brand.css")
    assert "Bread &amp; Butter &lt;Ltd&gt;</title>" in page.text
    assert 'src="https://pictures.example:8443/logo.png?a=1&amp;b=2"' in page.text
    assert "img-src data: https://pictures.example:8443;" in page.headers["Content-Security-Policy"]
    assert "--brand: #ffcc00; --on-brand: #000000;" in style.text
