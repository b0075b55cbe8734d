"""The access log: one line and one count for every request."""

from __future__ import annotations

from regsvc.http.server.events import RequestLine, log_request
from regsvc.metrics import REQUESTS

_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def note_request(line: RequestLine) -> None:
    """Count and log a request that was answered; those that machines make every few seconds are not logged."""
    REQUESTS.labels(line.method if line.method in _METHODS else "other", str(line.status or "none")).inc()
    if line.path not in _PROBES:
        log_request(line)
