"""Frequent log lines are written by a shorter way, and nobody who reads them can tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import structlog

from regsvc import logs
from regsvc.http.request_log import log_request
from regsvc.http.server.events import RequestLine

SECRET = "a configured secret"
REQUEST_ID = "0123456789abcdef0123456789abcdef"
PATHS = (
    "/",
    "/api/v1/me",
    '/a"b\\c',
    "/people/ann@example.org",
    "/confirm/AbCdEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGhIj",
    "/a configured secret/x",
    "/token=secret",
)
LINES = [
    RequestLine("http", "GET", path, status, 1.25, REQUEST_ID, "192.0.2.0/24")
    for path in PATHS
    for status in (200, None)
] + [RequestLine("websocket", "GET", "/live", 101, 60_000.0, REQUEST_ID, "2001:db8::/48", close_code=1001)]


def write_all(folder: Path, *, quick: bool, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    path = folder / f"{quick}.log"
    with path.open("w", encoding="utf-8") as stream:
        logs.configure(format="json", stream=stream, secrets=[SECRET])
        if not quick:
            monkeypatch.setattr(logs, "_quick", [])
        for line in LINES * 2:
            log_request(line)
        logs.drain()
        structlog.reset_defaults()
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_the_short_way_writes_what_the_long_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = write_all(tmp_path, quick=True, monkeypatch=monkeypatch)
    long = write_all(tmp_path, quick=False, monkeypatch=monkeypatch)
    assert len(short) == len(LINES) * 2
    for one, other in zip(short, long, strict=True):
        assert len(one["timestamp"]) == len(other["timestamp"])
        assert list((one | {"timestamp": ""}).items()) == list((other | {"timestamp": ""}).items())
    assert "ann@" not in json.dumps(short)
    assert SECRET not in json.dumps(short)


def test_lines_are_there_before_the_call_returns(tmp_path: Path) -> None:
    """A process that is killed has lost none of the requests that it answered."""
    path = tmp_path / "lines.log"
    with path.open("w", encoding="utf-8") as stream:
        logs.configure(format="json", stream=stream)
        for number, line in enumerate(LINES, 1):
            log_request(line)
            assert len(path.read_text("utf-8").splitlines()) == number
        structlog.reset_defaults()


@pytest.mark.parametrize(("style", "level"), [("console", "info"), ("json", "warning")])
def test_other_formats_and_levels_go_the_long_way(
    tmp_path: Path, style: logs.LogFormat, level: logs.LogLevel
) -> None:
    path = tmp_path / "lines.log"
    with path.open("w", encoding="utf-8") as stream:
        logs.configure(format=style, level=level, stream=stream)
        log_request(LINES[0])
        structlog.reset_defaults()
    text = path.read_text("utf-8")
    assert ("request answered" in text) is (level == "info")
    assert not text.startswith("{")
