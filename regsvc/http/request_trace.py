"""The span of a request. It is named by its route, and has no path, query, address or header of the client."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final

from quart import Response
from quart.wrappers import Request

from regsvc.http.request_log import PROBES
from regsvc.tracing.spans import begin_request, entered, get_trace_id, is_on

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
    with entered(span):
        state = request.scope.get("state", {})
        state["trace_id"] = get_trace_id()
        response = await handle(request)
        method = request.method if request.method in _METHODS else "_OTHER"
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "http.response.status_code": response.status_code,
            "url.scheme": request.scheme,
            "regsvc.request_id": str(state.get("request_id", "")),
        }
        rule = request.url_rule
        if rule is not None:
            attributes["http.route"] = route = _name_route(str(rule.rule))
            span.name(f"{method} {route}")
        else:
            span.name("HTTP" if method == "_OTHER" else method)
        if response.status_code >= _FAILED:
            attributes["error.type"] = str(response.status_code)
            span.fail()
        span.note(attributes)
    return response


@lru_cache(512)
def _name_route(rule: str) -> str:
    return _VARIABLE.sub("{id}", rule)
