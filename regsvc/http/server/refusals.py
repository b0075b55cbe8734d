"""What the server itself answers to what is not fit for the application: problems (RFC 9457), then a close."""

from __future__ import annotations

import json
from http import HTTPStatus

REQUEST_ID = b"x-request-id"

PROBLEMS = {
    400: ("bad_request", "The request is not valid HTTP/1.1."),
    403: ("websocket_refused", "This websocket is not open to this client."),
    408: ("request_timeout", "The request did not arrive in time."),
    413: ("body_too_large", "The body is larger than 16 KiB."),
    417: ("expectation_failed", "The only expectation that can be met is 100-continue."),
    426: ("upgrade_required", "Websockets are spoken here in version 13 (RFC 6455)."),
    431: ("headers_too_large", "The request line and the header together are larger than 16 KiB."),
    500: ("internal_error", "Something went wrong on our side. The request's id helps to find out what."),
    501: ("transfer_coding_unknown", "The only transfer coding that is understood is chunked."),
    503: ("too_many_connections", "Too many connections are open at the moment."),
    505: ("http_version_unsupported", "HTTP/1.1 is spoken here, and HTTP/1.0 understood."),
}
_HEADERS = {
    # RFC 6455 section 4.4 and RFC 9110 section 15.5.22
    426: [(b"upgrade", b"websocket"), (b"connection", b"upgrade"), (b"sec-websocket-version", b"13")],
    503: [(b"retry-after", b"5")],
}


class RefusedError(Exception):
    """The request gets this status and the connection is closed."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def problem(status: int, request_id: str, path: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return header and body of a refusal.

    Args:
        status: one that the server refuses with.
        request_id: by which the log knows the request.
        path: of the request; empty if it could not be read.
    """
    code, detail = PROBLEMS.get(status, PROBLEMS[400])
    members = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **({"instance": path} if path else {}),
        "code": code,
        "error": detail,
        "request_id": request_id,
    }
    body = json.dumps(members).encode()
    return [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (REQUEST_ID, request_id.encode()),
        *_HEADERS.get(status, []),
    ], body
