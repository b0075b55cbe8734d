"""What is the same for every client is made once, has an entity tag, and is compressed where that is understood."""

from __future__ import annotations

import gzip

import pytest

from tests.services import Service

PATHS = ("/openapi.json", "/docs")


@pytest.mark.parametrize("path", PATHS)
async def test_a_client_that_has_it_is_told_so(shared_service: Service, path: str) -> None:
    client = shared_service.client
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    tag = plain.headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await client.get(path, headers={"Accept-Encoding": "identity", "If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["ETag"] == tag
        assert answer.headers["Cache-Control"] == plain.headers["Cache-Control"]
        assert not {"Content-Type", "Content-Length"} & set(answer.headers)
    for other in ('"other"', ""):
        answer = await client.get(path, headers={"Accept-Encoding": "identity", "If-None-Match": other})
        assert (answer.status_code, answer.content) == (200, plain.content)


@pytest.mark.parametrize("path", PATHS)
async def test_it_is_compressed_for_clients_that_understand_that(shared_service: Service, path: str) -> None:
    client = shared_service.client
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    for wanted in ("gzip", "br, gzip;q=0.5", "*"):
        async with client.stream("GET", path, headers={"Accept-Encoding": wanted}) as answer:
            raw = b"".join([part async for part in answer.aiter_raw()])
        assert answer.headers["Content-Encoding"] == "gzip"
        assert int(answer.headers["Content-Length"]) == len(raw) < len(plain.content) / 4
        assert gzip.decompress(raw) == plain.content
        assert answer.headers["ETag"] != plain.headers["ETag"]
        assert "Accept-Encoding" in answer.headers["Vary"]
        again = await client.get(
            path, headers={"Accept-Encoding": wanted, "If-None-Match": answer.headers["ETag"]}
        )
        assert again.status_code == 304
    for unwanted in ("br", "gzip;q=0", ""):
        answer = await client.get(path, headers={"Accept-Encoding": unwanted})
        assert "Content-Encoding" not in answer.headers


async def test_an_origin_that_is_listed_may_still_read_the_description(shared_service: Service) -> None:
    answer = await shared_service.client.get("/openapi.json")
    assert {part.strip() for part in answer.headers["Vary"].split(",")} == {"Accept-Encoding", "Origin"}


async def test_head_tells_what_get_would_send(shared_service: Service) -> None:
    for coding in ("gzip", "identity"):
        asked = {"Accept-Encoding": coding}
        head = await shared_service.client.head("/docs", headers=asked)
        async with shared_service.client.stream("GET", "/docs", headers=asked) as answer:
            raw = b"".join([part async for part in answer.aiter_raw()])
        assert int(head.headers["Content-Length"]) == len(raw)
        assert head.headers["ETag"] == answer.headers["ETag"]
