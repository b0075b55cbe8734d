"""Which pages of other sites may call the API from a browser: those of the origins that the operator lists.

By the fetch standard (https://fetch.spec.whatwg.org/#http-cors-protocol): origins are compared whole, none is echoed
that is not listed, and no credentials of the browser are let in, since the API knows none but those in a header.
"""

from __future__ import annotations

from quart import Response

from regsvc.http.context import get_context
from regsvc.http.current import get_connection

_SHARED = ("/api/", "/.well-known/", "/openapi.json")
_HEADERS = (
    "Accept-Language, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Prefer, "
    "Regsvc-Handle, Regsvc-Solution, Traceparent, Tracestate"
)
_EXPOSED = (
    "ETag, Location, RateLimit, RateLimit-Policy, Regsvc-Handle, Retry-After, WWW-Authenticate, X-Request-Id"
)
_MAX_AGE = 600  # seconds for which a browser need not ask again


def add_cors_headers(response: Response) -> None:
    """Add the headers that let pages of listed origins send requests and read the answers."""
    request = get_connection()
    if not request.path.startswith(_SHARED):
        return
    # Whether or not an origin was sent: the answer to another may differ.
    if "Vary" in response.headers:
        response.vary.add("Origin")
    else:
        response.headers["Vary"] = "Origin"
    origin = request.headers.get("Origin")
    if origin not in get_context().settings.origins:
        return
    headers = response.headers
    headers["Access-Control-Allow-Origin"] = origin
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        headers["Access-Control-Allow-Methods"] = headers.get("Allow", "")
        headers["Access-Control-Allow-Headers"] = _HEADERS
        headers["Access-Control-Max-Age"] = str(_MAX_AGE)
    else:
        headers["Access-Control-Expose-Headers"] = _EXPOSED
