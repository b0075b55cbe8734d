"""The id by which a request is known to its client and in the log."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import uuid4

from regsvc.http.current import get_connection, get_globals

HEADER = "X-Request-Id"


def get_request_id() -> str:
    """Return the current request's id: the one the server gave it, so that the server's own errors agree."""
    here = get_globals()
    if "request_id" not in here:
        state: Mapping[str, object] = get_connection().scope.get("state") or {}
        here.request_id = str(state.get("request_id") or uuid4().hex)
    return str(here.request_id)
