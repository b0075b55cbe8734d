"""The access log: one line and one count for every request."""

from __future__ import annotations

from functools import lru_cache

import structlog
from prometheus_client import Counter

from regsvc.http.server.events import RequestLine
from regsvc.logs import get_quick_lines
from regsvc.metrics import REQUESTS

log = structlog.get_logger()

_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def note_request(line: RequestLine) -> None:
    """Count and log a request that was answered; those that machines make every few seconds are not logged."""
    _count(line.method, line.status).inc()
    if line.path not in _PROBES:
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
    quick = get_quick_lines()
    if quick is not None:
        quick.write(phrase, fields, line.request_id)
    else:
        log.info(phrase, **dict(fields), request_id=line.request_id)


@lru_cache(256)
def _count(method: str, status: int | None) -> Counter:
    return REQUESTS.labels(method if method in _METHODS else "other", str(status or "none"))
