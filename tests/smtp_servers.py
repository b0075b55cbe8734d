"""SMTP servers for tests: without a script they accept and keep every mail, with one they misbehave on cue.

    async with ScriptedServer({"RCPT": "550 5.1.1 no such user"}).running() as server:

A script gives a step's reaction, or a list of them that is used up one occurrence at a time, over all
connections. Steps are the commands, and `greeting`, `answer` (within AUTH), `content` (before any of it is
read) and `DOT`.
"""

from __future__ import annotations

import base64
import hmac
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Self, TypeAlias

import trio

if TYPE_CHECKING:
    import ssl

PATIENCE = 30.0  # seconds; machines that run the suite are busy
"""Seconds after which something a test waits for will not come any more."""

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 10485760", "ENHANCEDSTATUSCODES")


@dataclass(frozen=True)
class Say:
    """Send exactly these octets."""

    octets: bytes


@dataclass(frozen=True)
class Silence:
    """Never answer, however long the client stays."""


@dataclass(frozen=True)
class HangUp:
    """Close the connection after sending `octets`, with a reset instead of a FIN if asked.

    At `DOT` the mail may be `kept` all the same, as by a server that dies before its answer is through.
    """

    octets: bytes = b""
    reset: bool = False
    kept: bool = False


@dataclass(frozen=True)
class Drip:
    """Send octets one at a time, `seconds` apart, for ever."""

    octets: bytes
    seconds: float


@dataclass(frozen=True)
class Hold:
    """Wait for an event without reading, then do as usual."""

    until: trio.Event


Reaction: TypeAlias = str | Say | Silence | HangUp | Drip | Hold
Script: TypeAlias = Mapping[str, Reaction | Sequence[Reaction]]


@dataclass(frozen=True)
class ReceivedMail:
    """A mail for which the server answered the dot with 250."""

    sender: str
    recipient: str
    data: bytes
    connection: int


@dataclass
class ScriptedServer:
    """A server on a loopback port; what it saw stands in its lists.

    Args:
        script: What to do differently from accepting everything.
        extensions: Lines of the reply to EHLO.
        tls: A server's context; offers STARTTLS, or starts with TLS at once if `implicit_tls`.
        users: User names and passwords; offers AUTH with `mechanisms`, and takes no mail without it.
    """

    script: Script = field(default_factory=dict)
    extensions: Sequence[str] = EXTENSIONS
    tls: ssl.SSLContext | None = None
    implicit_tls: bool = False
    users: Mapping[str, str] = field(default_factory=dict)
    mechanisms: str = "PLAIN LOGIN"
    auth_separator: str = " "
    port: int = 0
    mails: list[ReceivedMail] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    _used: dict[str, int] = field(default_factory=dict)
    _changed: trio.Event = field(default_factory=trio.Event)

    @property
    def url(self) -> str:
        """Where mail goes in clear and without a user."""
        return f"smtp://127.0.0.1:{self.port}"

    async def wait(self, condition: Callable[[], bool], *, seconds: float = PATIENCE) -> None:
        """Wait until something seen makes the condition true."""
        with trio.fail_after(seconds):
            while not condition():
                await self._changed.wait()

    async def wait_mails(self, count: int) -> list[ReceivedMail]:
        """Wait until so many mails are there, and return all."""
        await self.wait(lambda: len(self.mails) >= count)
        return self.mails

    def said(self, verb: str) -> int:
        """Return how often a command came."""
        return sum(command.split(" ")[0].upper() == verb for command in self.commands)

    def note(self) -> None:
        """Let whoever waits look again."""
        self._changed.set()
        self._changed = trio.Event()

    def reaction(self, step: str) -> Reaction | None:
        """Return what the script wants at this occurrence of a step, if anything."""
        self.steps.append(step)
        self.note()
        wanted = self.script.get(step)
        if wanted is None or isinstance(wanted, str | Say | Silence | HangUp | Drip | Hold):
            return wanted
        used = self._used.get(step, 0)
        self._used[step] = used + 1
        return wanted[used] if used < len(wanted) else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run while the block lasts; afterwards the client must be found to have kept to the protocol."""
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, self.serve_connection, listeners)
            yield self
            nursery.cancel_scope.cancel()
        assert self.violations == []

    async def serve_connection(self, stream: trio.SocketStream) -> None:
        """Hold one conversation; the client may break it off at any point."""
        self.connections += 1
        self.open_connections += 1
        conversation = _Conversation(self, stream, self.connections)
        try:
            await conversation.hold()
        except (trio.BrokenResourceError, _HungUpError):
            pass
        finally:
            self.open_connections -= 1
            self.note()
            await trio.aclose_forcefully(conversation.stream)


class _HungUpError(Exception):
    """The script, or the client, ended the conversation."""


class _Conversation:
    """One connection's side of the talk."""

    def __init__(self, server: ScriptedServer, stream: trio.abc.Stream, number: int) -> None:
        self.stream = stream
        self._server = server
        self._number = number
        self._buffer = b""
        self._encrypted = False
        self._user: str | None = None
        self._sender: str | None = None
        self._recipient: str | None = None

    async def hold(self) -> None:
        if self._server.implicit_tls:
            await self._encrypt()
        await self._answer("greeting", "220 test.example ESMTP")
        while True:
            command = (await self._line()).decode(errors="replace")
            self._server.commands.append(command)
            verb = command.partition(" ")[0].upper()
            if self._buffer and "PIPELINING" not in self._server.extensions:
                self._server.violations.append(f"pipelined behind {verb}")
            handler = getattr(self, f"_on_{verb.lower()}", None)
            if handler is None:
                await self._answer(verb, "500 5.5.2 what?")
            else:
                await handler(command)
            self._server.note()

    async def _on_ehlo(self, _: str) -> None:
        lines = ["test.example", *self._server.extensions]
        if self._server.tls and not self._encrypted:
            lines.append("STARTTLS")
        if self._server.users:
            lines.append(f"AUTH{self._server.auth_separator}{self._server.mechanisms}")
        answer = [f"250{'-' if number < len(lines) else ' '}{line}" for number, line in enumerate(lines, 1)]
        await self._answer("EHLO", "\r\n".join(answer))

    async def _on_helo(self, _: str) -> None:
        await self._answer("HELO", "250 test.example")

    async def _on_starttls(self, _: str) -> None:
        await self._answer("STARTTLS", "220 2.0.0 go ahead")
        self._buffer = b""
        await self._encrypt()

    async def _on_auth(self, command: str) -> None:
        _, mechanism, *rest = command.split(" ")
        reaction = self._server.reaction("AUTH")
        if reaction is not None:
            await self._react(reaction)
            return
        if mechanism == "PLAIN":
            name, password = base64.b64decode(rest[0]).decode().split("\0")[1:]
        elif mechanism == "CRAM-MD5":
            challenge = f"<{self._number}.{id(self)}@test.example>"
            await self._answer("answer", f"334 {base64.b64encode(challenge.encode()).decode()}")
            name, _, digest = base64.b64decode(await self._line()).decode().rpartition(" ")
            password = self._server.users.get(name, "")
            if hmac.new(password.encode(), challenge.encode(), "md5").hexdigest() != digest:
                name = ""
        else:
            name = await self._ask("VXNlcm5hbWU6")
            password = await self._ask("UGFzc3dvcmQ6")
        if self._server.users.get(name) == password:
            self._user = name
            await self._say("235 2.7.0 welcome")
        else:
            await self._say("535 5.7.8 who are you?")

    async def _ask(self, question: str) -> str:
        await self._answer("answer", f"334 {question}")
        return base64.b64decode(await self._line()).decode()

    async def _on_mail(self, command: str) -> None:
        if self._server.users and self._user is None:
            await self._say("530 5.7.0 log in first")
            return
        if self._sender is not None:
            self._server.violations.append("MAIL within a transaction")
        if await self._answer("MAIL", "250 2.1.0 ok"):
            self._sender = _path(command)

    async def _on_rcpt(self, command: str) -> None:
        if self._sender is None:
            await self._say("503 5.5.1 MAIL first")
        elif await self._answer("RCPT", "250 2.1.5 ok"):
            self._recipient = _path(command)

    async def _on_data(self, _: str) -> None:
        usual = "354 go" if self._recipient is not None else "503 5.5.1 RCPT first"
        if not await self._answer("DATA", usual):
            return
        early = self._server.reaction("content")
        if early is not None:
            await self._react(early)
        while not (self._buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self._buffer):
            await self._receive()
        raw, _end, self._buffer = (b"\r\n" + self._buffer).partition(b"\r\n.\r\n")
        if {*b"\r\n"} & {*raw.replace(b"\r\n", b"")}:
            self._server.violations.append("bare CR or LF")
        if self._recipient is None:
            if raw:
                self._server.violations.append("content for nobody")
            self._sender = None
            await self._answer("DOT", "554 5.5.1 no valid recipients")
            return
        assert self._sender is not None
        data = (raw + b"\r\n").replace(b"\r\n..", b"\r\n.").removeprefix(b"\r\n")
        mail = ReceivedMail(self._sender, self._recipient, data, self._number)
        self._sender = self._recipient = None
        await self._answer("DOT", "250 2.0.0 ok queued", mail)

    async def _on_rset(self, _: str) -> None:
        self._sender = self._recipient = None
        await self._answer("RSET", "250 2.0.0 ok")

    async def _on_quit(self, _: str) -> None:
        await self._answer("QUIT", "221 2.0.0 bye")
        raise _HungUpError

    async def _encrypt(self) -> None:
        assert self._server.tls is not None
        stream = trio.SSLStream(self.stream, self._server.tls, server_side=True, https_compatible=True)
        self.stream = stream
        await stream.do_handshake()
        self._encrypted = True

    async def _answer(self, step: str, usual: str, mail: ReceivedMail | None = None) -> bool:
        """Answer as the script wants, else as usual; return whether that is a yes, which keeps the mail first."""
        reaction = self._server.reaction(step)
        if isinstance(reaction, Hold):
            await reaction.until.wait()
            reaction = None
        yes = _is_yes(usual if reaction is None else reaction)
        if mail is not None and yes:
            self._server.mails.append(mail)
        await self._react(usual if reaction is None else reaction)
        return yes

    async def _react(self, reaction: Reaction) -> None:
        match reaction:
            case str():
                await self._say(reaction)
            case Say(octets):
                await self.stream.send_all(octets)
            case Hold(until):
                await until.wait()
            case Silence():
                while True:
                    await self._receive()
            case Drip(octets, seconds):
                while True:
                    for octet in octets:
                        await self.stream.send_all(bytes([octet]))
                        await trio.sleep(seconds)
            case HangUp(octets, reset):
                await self.stream.send_all(octets)
                self._hang_up(reset=reset)

    def _hang_up(self, *, reset: bool) -> NoReturn:
        if reset:
            assert isinstance(self.stream, trio.SocketStream)
            at_once = struct.pack("ii", 1, 0)
            self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
        raise _HungUpError

    async def _say(self, line: str) -> None:
        await self.stream.send_all(line.encode() + b"\r\n")

    async def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            await self._receive()
        line, _, self._buffer = self._buffer.partition(b"\n")
        if not line.endswith(b"\r"):
            self._server.violations.append("a command ended by a bare LF")
        return line.removesuffix(b"\r")

    async def _receive(self) -> None:
        octets = await self.stream.receive_some(65_536)
        if not octets:
            raise _HungUpError
        self._buffer += octets


def _is_yes(reaction: Reaction) -> bool:
    """Whether a reaction is a 2yz or 3yz reply, or keeps the mail without one."""
    match reaction:
        case str():
            return reaction[0] in "23"
        case Say(octets):
            return octets[:1] in {b"2", b"3"}
        case HangUp():
            return reaction.kept
        case _:
            return False


def _path(command: str) -> str:
    """Return the address between the angle brackets of MAIL or RCPT."""
    return command.partition("<")[2].partition(">")[0]
