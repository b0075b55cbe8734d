"""The span of a request. It is named by its route, and has no path, query, address or header of the client."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final

from quart import Response
from quart.wrappers import Request

from regsvc.http.request_log import PROBES
from regsvc.tracing.spans import Span, begin_request, entered, is_on

_VARIABLE: Final = re.compile(r"<[^>]+>")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FAILED: Final = 500


async def trace_request(handle: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    """Answer a request, in a span if it is traced; those of machines that look every few seconds are not.

    Args:
        handle: answers it.
        request: the request.
    """
    if not is_on() or request.path in PROBES:
        return await handle(request)
    span = begin_request(request.headers.getlist("Traceparent"))
    if span is None:
        return await handle(request)
    request.scope.get("state", {})["trace_id"] = f"{span.context.trace_id:032x}"
    status: int | None = None
    with entered(span):
        try:
            response = await handle(request)
            status = response.status_code
        finally:
            _describe(span, request, status)
    return response


def _describe(span: Span, request: Request, status: int | None) -> None:
    """Name a span and say what the request was; without a status its client has left."""
    method = request.method if request.method in _METHODS else "_OTHER"
    attributes: dict[str, str | int] = {
        "http.request.method": method,
        "url.scheme": request.scheme,
        "regsvc.request_id": str(request.scope.get("state", {}).get("request_id", "")),
    }
    rule = request.url_rule
    if rule is not None:
        attributes["http.route"] = _name_route(str(rule.rule))
        span.name(f"{method} {attributes['http.route']}")
    else:
        span.name("HTTP" if method == "_OTHER" else method)
    if status is not None:
        attributes["http.response.status_code"] = status
    if status is None or status >= _FAILED:
        attributes["error.type"] = "abandoned" if status is None else str(status)
        span.fail()
    span.note(attributes)


@lru_cache(512)
def _name_route(rule: str) -> str:
    return _VARIABLE.sub("{id}", rule)
