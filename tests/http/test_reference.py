"""The page about the API has all of its description, and works without a script and without a network."""

from __future__ import annotations

import re
from html import unescape

from tests.services import Service


async def test_it_has_every_call_every_problem_and_every_body_of_the_description(
    shared_service: Service,
) -> None:
    html = (await shared_service.client.get("/docs")).text
    within_a_line = re.sub(r"</?(?:code|a|span)\b[^>]*>", "", html)
    page = " ".join(unescape(re.sub(r"<[^>]+>", " ", within_a_line)).split())
    described = (await shared_service.client.get("/openapi.json")).json()
    for path, methods in described["paths"].items():
        for method, call in methods.items():
            assert re.search(rf"{method.upper()}\s+{re.escape(path)}\s", page), path
            assert call["summary"].replace("`", "") in page
            codes = re.findall(r"- `(\w+)`: ", str(call["responses"]))
            assert all(re.search(rf"\b{code}\b", page) for code in codes)
    for name, schema in described["components"]["schemas"].items():
        assert re.search(rf"\b{name}\b", page)
        assert all(re.search(rf"\b{field}\b", page) for field in schema["properties"])


async def test_every_link_of_it_leads_somewhere(shared_service: Service) -> None:
    page = (await shared_service.client.get("/docs")).text
    places = re.findall(r'\sid="([^"]+)"', page)
    assert len(places) == len(set(places))
    links = set(re.findall(r'href="([^"]+)"', page))
    assert {link[1:] for link in links if link.startswith("#")} <= set(places)
    for link in links - {"data:,"}:
        if not link.startswith("#"):
            assert (await shared_service.client.get(link)).status_code == 200, link


async def test_it_loads_nothing_from_elsewhere_and_runs_nothing(shared_service: Service) -> None:
    answer = await shared_service.client.get("/docs")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert not re.search(r"<script|<style|style=|\son\w+=|<iframe|https?://", answer.text)
