"""The id by which a request is known to its client and in the log."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from quart import g, has_request_context, request, websocket

HEADER = "X-Request-Id"


def get_request_id() -> str:
    """Return the current request's id: the one the server gave it, so that the server's own errors agree."""
    if "request_id" not in g:
        connection = request if has_request_context() else websocket
        state: Mapping[str, object] = connection.scope.get("state") or {}
        g.request_id = str(state.get("request_id") or uuid4().hex)
    return str(g.request_id)
