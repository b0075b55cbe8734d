"""The answer to one request, from the application's first message to its last."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, Any
from wsgiref.handlers import format_date_time

import trio

from regsvc.http.server.refusals import REQUEST_ID, problem
from regsvc.http.server.reporter import told_path
from regsvc.http.server.wire import GONE

if TYPE_CHECKING:
    from regsvc.http.server.connection import Connection

_FIELDS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++: [\t\x20-\x7e\x80-\xff]*+\r\n)*+")
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_WITHOUT_BODY = {HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
_SWITCHING = {HTTPStatus.SWITCHING_PROTOCOLS, HTTPStatus.UPGRADE_REQUIRED}
_date = (0, b"")


class InvalidAnswerError(Exception):
    """What the application answers is not HTTP."""


class Answer:
    """What the application answers, made into HTTP/1.1.

    Header and body go out together where they come together.

    Args:
        connection: to write to.
        method: of the request.
        target: of the request; of neither if they could not be read.
        version: of the request.
        close: the connection closes behind it, which it says; so it does while the server stops.

    Attributes:
        close: see above; true also once the header says so.
        done: the whole answer went out.
    """

    def __init__(
        self, connection: Connection, method: str, target: bytes, *, version: str = "1.1", close: bool
    ) -> None:
        self._connection = connection
        self._method = method
        self._target = target
        self._version = version
        self._status: int | None = None
        self._out = b""  # the header, until the first of the body is there
        self._body = self._chunked = self._sent = self.done = False
        self._left: int | None = None  # bytes of the body that are to come, where that is known
        self.close = close

    @property
    def status(self) -> int | None:
        """The status that the client has; None if it has not all of the answer.

        It may hang up as soon as it has the announced length, before the application says that this was all.
        """
        return self._status if self.done or (self._sent and self._left == 0) else None

    async def send(self, message: Any) -> None:
        """Take what the application sends (ASGI); nothing of it goes to a client that is gone."""
        if self._connection.wire.gone:
            await trio.lowlevel.checkpoint()  # which is where such an application is cancelled
            return
        kind = message["type"]
        if kind == "http.response.start" and self._status is None:
            self._start(int(message["status"]), message.get("headers", ()))
        elif kind == "http.response.body" and self._status is not None and not self.done:
            await self._send_body(bytes(message.get("body", b"")), last=not message.get("more_body", False))
        else:
            raise InvalidAnswerError(kind)

    async def fail(self, status: int = 500) -> None:
        """Answer with a problem, if nothing went out yet; then the connection closes."""
        self.close = True
        if self._sent or self._connection.wire.gone:
            return
        request_id = self._connection.request_id
        headers, body = problem(status, request_id, told_path(self._target))
        self._start(status, headers)
        await self._send_body(body, last=True)

    async def switch(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Answer that the connection is a websocket from here on.

        Raises:
            InvalidAnswerError: a name or a value cannot stand in a header.
        """
        self._start(HTTPStatus.SWITCHING_PROTOCOLS, headers)
        await self._write(self._out)

    async def _write(self, data: bytes) -> None:
        """Write bytes; the application is cancelled if the client is gone."""
        try:
            await self._connection.wire.write(data)
        except GONE:
            self._connection.hang_up()
            await trio.lowlevel.checkpoint()

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Make the header.

        Raises:
            InvalidAnswerError: a name or a value cannot stand in one.
        """
        names = {REQUEST_ID: False, b"content-length": False}
        lines = []
        for raw, value in headers:
            name = raw.lower()
            if name in names:
                names[name] = True
                if name == b"content-length":
                    if status == HTTPStatus.NO_CONTENT:
                        continue  # RFC 9110 section 8.6
                    self._left = int(value)
            elif name == b"transfer-encoding" or (name == b"connection" and status not in _SWITCHING):
                self.close |= value.lower() == b"close"
                continue  # neither is the application's to choose, but that it ends
            lines.append(b"%b: %b\r\n" % (name, value))
        fields = b"".join(lines)
        if _FIELDS.fullmatch(fields) is None or fields.count(b"\n") != len(lines):
            raise InvalidAnswerError
        self._status = status
        self._body = self._method != "HEAD" and status not in _WITHOUT_BODY
        self._chunked = self._body and self._left is None and self._version != "1.0"
        self.close |= self._body and self._left is None and not self._chunked
        self.close |= self._connection.shared.context.terminate.is_set()
        self._out = b"".join(
            (
                _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status,
                fields,
                b""
                if names[REQUEST_ID]
                else b"%b: %b\r\n" % (REQUEST_ID, self._connection.request_id.encode()),
                b"transfer-encoding: chunked\r\n" if self._chunked else b"",
                b"connection: close\r\n" if self.close and status != HTTPStatus.SWITCHING_PROTOCOLS else b"",
                _get_date_line(),
                b"\r\n",
            )
        )

    async def _send_body(self, data: bytes, *, last: bool) -> None:
        size = len(data)
        if not self._body:
            size, data = 0, b""
        elif self._left is not None and (size > self._left or (last and size < self._left)):
            raise InvalidAnswerError
        elif self._chunked:
            data = (b"%x\r\n%b\r\n" % (size, data) if size else b"") + (b"0\r\n\r\n" if last else b"")
        if data or last:
            out, self._out, self._sent = self._out + data, b"", True
            if out:
                await self._write(out)
        if self._left is not None:
            self._left -= size
        self.done = last


def _get_date_line() -> bytes:
    """Return the `Date` of an answer (RFC 9110 section 6.6.1), made once a second."""
    global _date  # noqa: PLW0603 - one clock
    now = int(time())
    if _date[0] != now:
        _date = (now, b"date: %b\r\n" % format_date_time(now).encode())
    return _date[1]
