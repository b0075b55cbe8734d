"""The ASGI application of a worker: `/healthz`, `/readyz` and `/metrics`, without a web framework."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from regsvc.http.health.standing import METRICS_TYPE, Process, may_see_details, read_metrics, read_readiness
from regsvc.http.request.forwarding import find_client

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

_METHODS = ("GET", "HEAD")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_JSON = "application/json"


class HealthApplication:
    """Answers probes about one process.

    Args:
        process: the one that is asked about.
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI 3)."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            status, headers, body = await self._answer(scope)
            given = _HEADERS | {"X-Request-Id": scope["state"]["request_id"]} | dict(headers)
            given["Content-Length"] = str(len(body))
            lines = [(name.lower().encode(), value.encode()) for name, value in given.items()]
            await send({"type": "http.response.start", "status": status, "headers": lines})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
        path = scope["path"]
        if path not in {"/healthz", "/readyz", "/metrics"}:
            return _problem(scope, HTTPStatus.NOT_FOUND, "not_found", "There is nothing at this path.")
        if scope["method"] not in _METHODS:
            allowed = ", ".join(_METHODS)
            status, headers, body = _problem(
                scope, HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", f"This path takes {allowed}."
            )
            return status, headers | {"Allow": allowed}, body
        if path == "/healthz":
            return HTTPStatus.OK, {"Content-Type": _JSON}, b'{"status": "ok"}'
        details = self._may_see_details(scope)
        if path == "/readyz":
            readiness = await read_readiness(self._process, details=details)
            status, headers = HTTPStatus.OK, {"Content-Type": _JSON}
            if readiness["status"] == "unavailable":
                status, headers = HTTPStatus.SERVICE_UNAVAILABLE, headers | {"Retry-After": "2"}
            return status, headers, json.dumps(readiness, ensure_ascii=False).encode()
        if not details:
            detail = "This client may not read the metrics (REGSVC_METRICS_ALLOW)."
            return _problem(scope, HTTPStatus.FORBIDDEN, "client_not_allowed", detail)
        return HTTPStatus.OK, {"Content-Type": METRICS_TYPE}, await read_metrics(self._process)

    def _may_see_details(self, scope: Mapping[str, Any]) -> bool:
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        peer = scope["client"][0] if scope["client"] else None
        client = find_client(
            peer,
            [name for name, _ in headers],
            [value for name, value in headers if name == "x-forwarded-for"],
            self._process.settings.trusted_proxies,
        )
        self._process.forwarding.note(client, peer)
        return may_see_details(self._process, client)


def _problem(
    scope: Mapping[str, Any], status: HTTPStatus, code: str, detail: str
) -> tuple[int, dict[str, str], bytes]:
    """Return an error as the API returns it (RFC 9457)."""
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "instance": scope["path"],
        "code": code,
        "error": detail,
        "request_id": scope["state"]["request_id"],
    }
    return status, {"Content-Type": "application/problem+json"}, json.dumps(body).encode()


async def _live(receive: Receive, send: Send) -> None:
    """Take the server's word that it starts and stops: there is nothing to prepare."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
