"""A connection to a mail server: write octets and read replies, each within a deadline."""

from __future__ import annotations

import math
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

import trio

from regsvc.mail.outcome import Delayed, Failure, Reason, Refused, Stage
from regsvc.mail.smtp.dialogue import GarbledReplyError, Reply, ReplyReader, judge
from regsvc.mail.smtp.stages import note_reply, note_stage, noting
from regsvc.tracing.spans import Stopwatch

_QUIT_SECONDS: Final = 2.0
_RECEIVE: Final = 4096  # octets
_HEARING_SECONDS: Final = 1.0
_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds for writing at a stage, and again for its whole reply, however slowly bytes arrive.

    RFC 5321, 4.5.3.2, allows minutes. Here a user waits, and the mail is retried. `connect` is the total for reaching
    the server: name, TCP, implicit TLS, and greeting. TLS after STARTTLS has it once more.
    """

    connect: float = 10.0
    command: float = 30.0
    data: float = 60.0
    after_dot: float = 120.0

    def of(self, stage: Stage) -> float:
        """Return the seconds for a stage."""
        match stage:
            case "connect" | "tls" | "greeting":
                return self.connect
            case "data":
                return self.data
            case "dot":
                return self.after_dot
            case "quit":
                return min(self.command, _QUIT_SECONDS)
            case _:
                return self.command


class SessionFailedError(Exception):
    """The session is unusable; `failure` says why. Never leaves this package."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class Wire:
    """One TCP connection, encrypted or not. Every error on it becomes a `SessionFailedError`."""

    def __init__(self, stream: trio.SocketStream, deadlines: Deadlines, begun: float) -> None:
        # The name in EHLO if there is no better one: an address literal (RFC 5321, 4.1.3).
        address = str(stream.socket.getsockname()[0]).partition("%")[0]
        self.own_address = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
        # The socket itself, while in clear: Trio's own `send` and `recv` cost a round of its scheduler each.
        self._socket: socket.socket | None = socket.socket(fileno=stream.socket.detach())
        self._stream: trio.abc.Stream = trio.SocketStream(trio.socket.from_stdlib_socket(self._socket))
        self._deadlines = deadlines
        self._reach_by = begun + deadlines.connect
        self._reader = ReplyReader()
        self._watch = Stopwatch()  # since the last command or reply

    @classmethod
    async def connect(cls, host: str, port: int, deadlines: Deadlines) -> Self:
        """Connect to the host's address that answers first (RFC 8305)."""
        with noting("connect"):
            return await cls._connect(host, port, deadlines)

    @classmethod
    async def _connect(cls, host: str, port: int, deadlines: Deadlines) -> Self:
        begun = trio.current_time()
        with trio.move_on_after(deadlines.of("connect")):
            try:
                return cls(await trio.open_tcp_stream(host, port), deadlines, begun)
            except (socket.gaierror, UnicodeError) as error:
                raise SessionFailedError(Delayed("name_not_resolved", "connect", str(error))) from error
            except OSError as error:
                cause = error.__cause__  # one error per address
                if isinstance(cause, BaseExceptionGroup):
                    cause = cause.exceptions[0]
                raise SessionFailedError(Delayed("connect_failed", "connect", str(cause or error))) from error
        raise SessionFailedError(Delayed("timeout", "connect"))

    def reached(self) -> None:
        """Note that the server has sent its greeting, which ends the time limit for connecting."""
        self._reach_by = math.inf

    def _limit(self, stage: Stage) -> trio.CancelScope:
        """Return the cancel scope with a stage's deadline."""
        return trio.CancelScope(deadline=min(trio.current_time() + self._deadlines.of(stage), self._reach_by))

    async def encrypt(self, host: str, tls: ssl.SSLContext) -> None:
        """Start TLS. After that only encrypted data is read.

        Args:
            host: name that the server's certificate must have.
            tls: context with the trusted certificates.
        """
        with noting("tls"):
            await self._encrypt(host, tls)
        self._watch.restart()

    async def _encrypt(self, host: str, tls: ssl.SSLContext) -> None:
        if self.pending:  # received in clear, it would be taken for encrypted data (CVE-2011-0411)
            raise SessionFailedError(Refused("starttls_injection", "starttls"))
        self._socket = None
        self._stream = stream = trio.SSLStream(self._stream, tls, server_hostname=host, https_compatible=True)
        with self._limit("tls"):
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                cause = error.__cause__
                if isinstance(cause, ssl.SSLCertVerificationError):
                    refused = Refused("certificate_invalid", "tls", cause.verify_message)
                    raise SessionFailedError(refused) from error
                detail = str(cause or "")
                if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
                    detail += "; the server does not use implicit TLS: try smtp+starttls://"
                raise SessionFailedError(Delayed("tls_failed", "tls", detail)) from error
            return
        raise SessionFailedError(Delayed("timeout", "tls"))

    @property
    def pending(self) -> bool:
        """Whether the server has sent more than expected."""
        return self._reader.pending

    async def write(self, stage: Stage, octets: bytes) -> None:
        """Write octets. A server that has already answered them is out of step, and no longer trusted."""
        if self.pending:
            raise _out_of_turn(stage)
        self._watch.restart()
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._socket is not None:
            try:
                octets = octets[self._socket.send(octets) :]
            except BlockingIOError:
                pass
            except OSError as error:
                raise await self._hear(stage, _lost("disconnected", stage, error)) from error
            if not octets:
                return
        with self._limit(stage):
            try:
                await self._stream.send_all(octets)
            except trio.BrokenResourceError as error:
                raise await self._hear(stage, _lost("disconnected", stage, error)) from error
            return
        raise await self._hear(stage, _lost("timeout", stage))

    async def write_content(self, octets: bytes) -> None:
        """Write a mail's content. A server that refused it right behind its go-ahead is believed, as while we write."""
        if self.pending:
            raise await self._hear("data", _out_of_turn("data"))
        await self.write("data", octets)

    async def _hear(self, stage: Stage, lost: SessionFailedError) -> SessionFailedError:
        """Return the failure in the server's last reply, if it sent one, else `lost`.

        A server that refuses while we write may close the connection at once.
        """
        if stage == "dot":  # it cannot be the reply to the whole mail
            return lost
        with trio.move_on_after(_HEARING_SECONDS), suppress(trio.BrokenResourceError, GarbledReplyError):
            while (reply := self._reader.next_reply()) is None:
                octets = await self._receive()
                if not octets:
                    return lost
                self._reader.feed(octets)
            return SessionFailedError(judge(stage, reply) or lost.failure)
        return lost

    async def reply(self, stage: Stage) -> Reply:
        """Return the next reply, positive or not."""
        reply = None
        try:
            reply = await self._read_reply(stage)
        finally:
            if reply is None:
                note_stage(stage, self._watch.lap(), lost=True)
        note_reply(stage, self._watch.lap(), reply)
        return reply

    async def _read_reply(self, stage: Stage) -> Reply:
        try:
            reply = self._reader.next_reply()
            if reply is not None:  # pipelined replies usually arrive together
                return reply
            with self._limit(stage):
                while reply is None:
                    octets = await self._receive()
                    if not octets:
                        raise _lost("disconnected", stage)
                    self._reader.feed(octets)
                    reply = self._reader.next_reply()
                return reply
        except trio.BrokenResourceError as error:
            raise _lost("disconnected", stage, error) from error
        except GarbledReplyError as error:
            raise _lost("protocol_error", stage, error) from error
        raise _lost("timeout", stage)

    async def _receive(self) -> bytes | bytearray:
        """Wait for octets and return them; none at the end of the connection."""
        if self._socket is None:
            return await self._stream.receive_some(_RECEIVE)
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(_RECEIVE)
            except BlockingIOError:
                continue  # it was not for us
            except OSError as error:
                raise trio.BrokenResourceError from error

    async def agree(self, stage: Stage, octets: bytes = b"") -> Reply:
        """Write octets, if any, and return the reply. Raise if it is negative."""
        if octets:
            await self.write(stage, octets)
        reply = await self.reply(stage)
        failure = judge(stage, reply)
        if failure is not None:
            raise SessionFailedError(failure)
        return reply

    async def drop(self) -> None:
        """Close the connection at once."""
        await trio.aclose_forcefully(self._stream)


def _out_of_turn(stage: Stage) -> SessionFailedError:
    return SessionFailedError(Delayed("protocol_error", stage, "the server spoke out of turn"))


def _lost(reason: Reason, stage: Stage, error: Exception | None = None) -> SessionFailedError:
    detail = "" if error is None else str(error.__cause__ or error)
    return SessionFailedError(Delayed(reason, stage, detail, after_dot=stage == "dot"))
