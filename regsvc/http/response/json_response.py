"""JSON answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable

from quart import Response

from regsvc.http.framework import LeanResponse


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON answer that no cache keeps: nearly all of ours are about one person."""
    given = [] if headers is None else list(headers.items())
    if headers is None or "Cache-Control" not in headers:
        given.append(("Cache-Control", "no-store"))
    given.append(("Content-Type", "application/json"))
    return LeanResponse(json.dumps(body, ensure_ascii=False).encode(), status, given)


def answer_file(body: str | AsyncIterable[str], name: str) -> Response:
    """Return JSON that a browser stores as a file (RFC 6266), sent as its pieces come."""
    return Response(
        body,
        content_type="application/json",
        headers={"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'},
    )


def empty(status: int = 204) -> Response:
    """Return an answer without a body."""
    response = Response(b"", status=status)
    del response.headers["Content-Type"]
    response.headers["Cache-Control"] = "no-store"
    return response
