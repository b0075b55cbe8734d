"""The access log: one line and one count for every request."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter, Histogram

from regsvc.http.server.events import RequestLine
from regsvc.logs import get_quick_lines
from regsvc.metrics import REQUEST_SECONDS, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Container

    from quart import Quart

log = structlog.get_logger()

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_VARIABLE = re.compile(r"<[^>]+>")
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def list_routes(app: Quart) -> frozenset[str]:
    """Return the routes of an application, with `{id}` for what varies in them."""
    return frozenset(_VARIABLE.sub("{id}", rule.rule) for rule in app.url_map.iter_rules())


def note_request(line: RequestLine, routes: Container[str] = frozenset()) -> None:
    """Count and log a request that was answered; those that machines make every few seconds are not logged.

    Args:
        line: the request.
        routes: as `list_routes` returns them; a path that is none of them is `other`.
    """
    _count(line.method, line.status).inc()
    if line.kind == "http" and line.status is not None:
        route = _ID.sub("{id}", line.path)
        _time(line.method, route if route in routes else "other").observe(line.milliseconds / 1000)
    if line.path not in PROBES:
        log_request(line)


def log_request(line: RequestLine) -> None:
    """Log a request, at once: a killed process has lost none."""
    phrase = "request answered" if line.kind == "http" else "websocket closed"
    if line.status is None:
        phrase = "request abandoned"
    fields: list[tuple[str, str | float | None]] = [
        ("method", line.method),
        ("path", line.path),
        ("status", line.status),
        ("ms", round(line.milliseconds, 1)),
    ]
    if line.close_code is not None:
        fields.append(("close_code", line.close_code))
    fields.append(("client", line.client))
    if line.trace_id is not None:
        fields.append(("trace_id", line.trace_id))
    quick = get_quick_lines()
    if quick is not None:
        quick.write(phrase, fields, line.request_id)
    else:
        log.info(phrase, **dict(fields), request_id=line.request_id)


@lru_cache(512)
def _time(method: str, route: str) -> Histogram:
    return REQUEST_SECONDS.labels(method if method in _METHODS else "other", route)


@lru_cache(256)
def _count(method: str, status: int | None) -> Counter:
    return REQUESTS.labels(method if method in _METHODS else "other", str(status or "none"))
