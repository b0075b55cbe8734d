"""A service that answers everybody alike, but for the leak that a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

KNOWN, PASSWORD = "known@example.com", "the password of the one account"

Answer = tuple[int, dict[str, str], dict[str, Any]]
Leak = Callable[["Call"], Answer | None]


_ANSWERS: dict[str, Answer] = {
    "GET /openapi.json": (200, {}, {"paths": {"/api/v1/password/forgot": {"post": {}}}}),
    "POST /api/v1/login": (401, {}, {"code": "invalid_credentials"}),
    "GET /api/v1/registrations/ID": (200, {}, {"state": "sent", "seq": 3}),
    "POST /api/v1/confirm-email/code": (400, {}, {"code": "code_invalid"}),
}
_PAGE = {"Content-Type": "text/html"}
_PAGES: dict[str, Answer] = {
    "GET /login": (200, _PAGE, {}),
    "POST /login": (401, _PAGE, {}),
    "GET /signup/status": (200, _PAGE, {}),
}


@dataclass(frozen=True)
class Call:
    """A call as the stand-in sees it.

    Args:
        name: method and path.
        email: that it is about, also if only by its registration.
        answer: that everybody gets.
        signed_up: addresses that somebody has signed up before.
    """

    name: str
    email: str
    answer: Answer
    signed_up: frozenset[str]


@dataclass
class StandIn:
    """The state of it: which registration is whose."""

    leak: Leak
    pages: bool = False
    registrations: dict[str, str] = field(default_factory=dict)

    def reply(self, method: str, path: str, body: Mapping[str, str]) -> Answer:
        """Answer a call, with the leak if there is one."""
        before = frozenset(self.registrations.values())
        asked = path.rpartition("/registrations/")[2].partition("?")[0]
        email = body.get("email") or self.registrations.get(body.get("registration", asked), "")
        name = (
            f"{method} {path.partition('?')[0].replace(asked, 'ID') if '/registrations/' in path else path}"
        )
        answer = self._answer(name, email, body)
        return self.leak(Call(name, email, answer, before)) or answer

    def _answer(self, name: str, email: str, body: Mapping[str, str]) -> Answer:
        if name == "POST /api/v1/register":
            number = str(uuid4())
            self.registrations[number] = email
            headers = {"Location": f"/api/v1/registrations/{number}", "Regsvc-Handle": "h" * 43}
            return 201, headers, {"message": "welcome"}
        if name == "POST /api/v1/login" and (email, body["password"]) == (KNOWN, PASSWORD):
            return 200, {}, {"access_token": "x"}
        if self.pages and name == "POST /signup":
            number = str(uuid4())
            self.registrations[number] = email
            return (
                303,
                {"Set-Cookie": f"signup={number}.{'h' * 43}; Path=/", "Location": "/signup/status"},
                {},
            )
        if self.pages and name == "POST /forgot":
            return 422 if email == "x" else 200, _PAGE, {"asked": email}
        if self.pages and name in _PAGES:
            return _PAGES[name]
        return _ANSWERS.get(name, (202, {}, {"message": "it is on its way"}))


@contextmanager
def running(leak: Leak, *, pages: bool = False) -> Iterator[str]:
    """Run a stand-in as long as the block lasts; gives its URL."""
    stand_in = StandIn(leak, pages)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            sent = self.rfile.read(length).decode()
            form = "form" in self.headers.get("Content-Type", "")
            body = dict(parse_qsl(sent)) if form else json.loads(sent or "{}")
            if cookie := self.headers.get("Cookie"):
                body["registration"] = cookie.partition("=")[2].partition(".")[0]
            status, headers, value = stand_in.reply(self.command, self.path, body)
            data = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {
                "Content-Type": "application/json",
                **headers,
                "Content-Length": str(len(data)),
            }.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = handle_any  # noqa: N815 - names that the library looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait(seconds: float) -> None:
    """Take so long."""
    time.sleep(seconds)
