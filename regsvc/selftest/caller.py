"""Make calls on one persistent connection, with the time that each took and a comparable reply.

It uses the standard library's client in a thread, so that nothing but the network delays a reply.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from regsvc.errors import ConfigurationError, RegsvcError

PREFIX = "/api/v1"
SOLUTION_HEADER = "Regsvc-Solution"
_TIMEOUT = 60.0  # seconds; more than any call may take
_TRIES = 300  # attempts of a call that is answered with 503: about a minute on a busy machine

# Parts of a reply that differ between any two requests.
_VOLATILE = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<id>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)"), "<time>"),
    (re.compile(r"\b[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [0-9:]{8} GMT"), "<date>"),
    (re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])"), "<handle>"),
)

_OF_THE_CONNECTION = {"connection", "keep-alive"}  # these differ in the last reply of a connection


class UnreachableError(RegsvcError):
    """The service cannot be reached."""


class HeldBackError(RegsvcError):
    """The service applies rate limits to this client. Measure one that runs with REGSVC_RATE_LIMITS=off."""


@dataclass(frozen=True)
class Reply:
    """A reply, and the seconds from the first byte sent to the last byte read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    @property
    def is_problem(self) -> bool:
        """Whether it is an error of the API, and no page."""
        return "json" in self.headers.get("content-type", "")

    @property
    def value(self) -> Any:
        """The JSON in the body."""
        return json.loads(self.body)

    @property
    def shape(self) -> str:
        """The reply as a text, without the parts that differ between any two requests."""
        lines = [
            f"{name}: {value}"
            for name, value in sorted(self.headers.items())
            if name not in _OF_THE_CONNECTION
        ]
        text = "\n".join([str(self.status), *lines, "", self.body.decode("utf-8", "replace")])
        for pattern, word in _VOLATILE:
            text = pattern.sub(word, text)
        return text


def solve(challenge: dict[str, Any]) -> str:
    """Return the solution of a challenge, as the header takes it."""
    import altcha  # noqa: PLC0415 - most services ask for no proof of work

    task = altcha.Challenge.from_dict(challenge)
    found = altcha.solve_challenge(task)
    if found is None:
        raise UnreachableError("a challenge could not be solved in time")
    return altcha.Payload(task, found).to_base64()


class Caller:
    """A client of one service.

    Args:
        url: URL of the service, such as http://localhost:8080.

    Raises:
        ConfigurationError: the URL is invalid.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.path.strip("/")
            or parts.query
        ):
            raise ConfigurationError("a service's URL looks like http://HOST:8080")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.accepted: dict[str, str] = {}  # terms of use, for sign-ups
        self._connection = kind(parts.hostname, parts.port, timeout=_TIMEOUT)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Make an API call and return its reply. A body of bytes is sent as it is, any other as JSON.

        Raises:
            UnreachableError: there was no reply, or only 503.
            HeldBackError: the reply was 429.
        """
        for _ in range(_TRIES):
            reply = self._ask(method, path, body, headers or {})
            if reply.status == HTTPStatus.TOO_MANY_REQUESTS and not (
                reply.is_problem and reply.value.get("code") == "code_tries_exhausted"
            ):
                raise HeldBackError
            if reply.status == HTTPStatus.PRECONDITION_REQUIRED and reply.is_problem:
                # Proof of work is no part of what is measured.
                solved = {SOLUTION_HEADER: solve(reply.value["challenge"])}
                reply = self._ask(method, path, body, {**(headers or {}), **solved})
            if reply.status != HTTPStatus.SERVICE_UNAVAILABLE:
                return reply
            time.sleep(0.2)
        raise UnreachableError(f"{method} {path} is always answered with 503")

    def _ask(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> Reply:
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        typed = {"Content-Type": "application/json", **headers} if content else dict(headers)
        for last in (False, True):
            began = time.perf_counter()
            try:
                self._connection.request(method, path, content, typed)
                answer = self._connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                with suppress(OSError):
                    self._connection.close()  # the next request opens another
                # A server may close a kept connection while a request is on its way.
                if last or isinstance(error, ConnectionRefusedError):
                    raise UnreachableError(f"the service cannot be reached: {error}") from error
            else:
                seconds = time.perf_counter() - began
                found = {name.lower(): value for name, value in answer.getheaders()}
                return Reply(answer.status, found, data, seconds)
        raise AssertionError("not reached")
