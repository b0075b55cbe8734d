"""A connection to an IMAP server: commands out, responses in, all of bounded size."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NoReturn, Self

import trio

from regsvc.errors import UnavailableError

_RECEIVE: Final = 65_536
MAX_LINE: Final = 1_048_576  # octets of a response, literals apart
_LITERAL: Final = re.compile(rb"\{(\d{1,10})\+?\}$")
_SAID: Final = 200  # characters of the server that are quoted
_FOR_NOW: Final = re.compile(rb"\[(UNAVAILABLE|INUSE|LIMIT|SERVERBUG|OVERQUOTA)\b", re.IGNORECASE)


class ImapUnavailableError(UnavailableError):
    """The bounce mailbox cannot be read at the moment."""


class ImapRefusedError(ImapUnavailableError):
    """The server of the bounce mailbox refuses us."""


class Wire:
    """One encrypted connection. Every error on it becomes an `ImapUnavailableError`.

    Args:
        stream: after the handshake.
        max_literal: octets of a literal at most.
    """

    def __init__(self, stream: trio.abc.Stream, *, max_literal: int) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._max_literal = max_literal
        self._count = 0

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, host: str, port: int, tls: ssl.SSLContext, *, max_literal: int
    ) -> AsyncIterator[Self]:
        """Connect, start TLS, and close the connection at the end."""
        stream: trio.SSLStream[trio.SocketStream] | None = None
        try:
            try:
                stream = await trio.open_ssl_over_tcp_stream(
                    host, port, ssl_context=tls, https_compatible=True
                )
                await stream.do_handshake()
            except (OSError, trio.BrokenResourceError, UnicodeError) as error:
                _fail(error)
            yield cls(stream, max_literal=max_literal)
        finally:
            if stream is not None:
                await trio.aclose_forcefully(stream)

    async def read_greeting(self) -> None:
        """Read the server's first response (RFC 3501, 7.1)."""
        (line, *_) = await self._read_response()
        if not line.upper().startswith((b"* OK", b"* PREAUTH")):
            raise ImapUnavailableError(f"the server says {_quote(line)}")

    async def ask(self, command: bytes, *answers: bytes) -> list[list[bytes]]:
        """Give a command, and return the untagged responses before its completion.

        Args:
            command: without tag and line end.
            answers: to the server's requests for more, in order; further requests get an empty line.

        Returns:
            Each response as its text, split where a literal stood, with the literals between.

        Raises:
            ImapRefusedError: the server says NO or BAD.
            ImapUnavailableError: the connection is lost, the server says BYE, or answers what makes no sense.
        """
        self._count += 1
        tag = b"r%d" % self._count
        left, told = list(answers), list[list[bytes]]()
        size = 0
        await self._send(tag + b" " + command + b"\r\n")
        while True:
            response = await self._read_response()
            line = response[0]
            if line.startswith(b"+"):
                await self._send((left.pop(0) if left else b"") + b"\r\n")
            elif line.startswith(tag + b" "):
                return self._conclude(line[len(tag) + 1 :], told)
            elif line.upper().startswith(b"* BYE"):
                raise ImapUnavailableError(f"the server says {_quote(line)}")
            else:
                told.append(response)
            size += sum(map(len, response))
            if size > MAX_LINE + self._max_literal:
                raise ImapUnavailableError("the server's answer is too long")

    def _conclude(self, status: bytes, told: list[list[bytes]]) -> list[list[bytes]]:
        if status.upper().startswith(b"OK"):
            return told
        kind = ImapUnavailableError if _FOR_NOW.search(status) else ImapRefusedError
        raise kind(f"the server says {_quote(status)}")

    async def _read_response(self) -> list[bytes]:
        parts: list[bytes] = []
        while True:
            line = await self._read_line()
            literal = _LITERAL.search(line)
            if literal is None:
                return [*parts, line]
            size = int(literal[1])
            if size > self._max_literal or len(parts) > 8:  # noqa: PLR2004 - we ask for one at a time
                raise ImapUnavailableError("the server's answer is too long")
            parts += [line[: literal.start()], await self._read_octets(size)]

    async def _read_line(self) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\r\n", searched)) < 0:
            searched = max(0, len(self._buffer) - 1)
            if searched > MAX_LINE:
                raise ImapUnavailableError("the server's answer is too long")
            await self._receive()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def _read_octets(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._receive()
        octets = bytes(self._buffer[:size])
        del self._buffer[:size]
        return octets

    async def _receive(self) -> None:
        try:
            octets = await self._stream.receive_some(_RECEIVE)
        except (OSError, trio.BrokenResourceError) as error:
            _fail(error)
        if not octets:
            raise ImapUnavailableError("the server closed the connection")
        self._buffer += octets

    async def _send(self, octets: bytes) -> None:
        try:
            await self._stream.send_all(octets)
        except (OSError, trio.BrokenResourceError) as error:
            _fail(error)


def _fail(error: Exception) -> NoReturn:
    cause = error.__cause__ or error
    if isinstance(cause, BaseExceptionGroup):  # one error for each address
        cause = cause.exceptions[0]
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise ImapRefusedError(f"its certificate is not valid: {cause.verify_message}") from error
    raise ImapUnavailableError(str(cause)[:_SAID] or "the connection is lost") from error


def _quote(line: bytes) -> str:
    return line[:_SAID].decode("ascii", "replace")
