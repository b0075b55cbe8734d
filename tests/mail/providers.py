"""Providers' HTTP APIs for tests: they accept and keep every mail, or misbehave on cue.

async with ProviderServer("resend").running() as server:
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import h11
import trio

if TYPE_CHECKING:
    from regsvc.config.provider_url import ProviderName

PATIENCE = 30.0

Misbehave: TypeAlias = Callable[[Any], Any]
Reply: TypeAlias = "tuple[int, dict[str, str], bytes] | Misbehave"


@dataclass(frozen=True)
class SeenRequest:
    """A request that came whole."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """Return its body of JSON."""
        return json.loads(self.body)


@dataclass
class ProviderServer:
    """An API on a loopback port.

    Args:
        name: whose protocol it speaks.
        replies: what it answers, one request after the other; then it accepts.
        lost: its answers are lost: it closes the connection instead.
        tls: its certificate; without one it speaks in clear.
    """

    name: ProviderName
    replies: Sequence[Reply] = ()
    lost: bool = False
    tls: ssl.SSLContext | None = None
    port: int = 0
    requests: list[SeenRequest] = field(default_factory=list)
    mails: list[SeenRequest] = field(default_factory=list)
    keys: dict[str, bytes] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Return the URL of the route to it."""
        place = {"mailgun": "example.org", "ses": "eu-central-1"}.get(self.name, "")
        user = "AKIDEXAMPLE:canary%2Fsecret" if self.name == "ses" else "canary-key"
        return f"{self.name}://{user}@{place}?base=http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Serve within the block."""
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(self.port)
            self.port = listeners[0].socket.getsockname()[1]
            if self.tls is None:
                await nursery.start(trio.serve_listeners, self._serve, listeners)
            else:
                secured = [trio.SSLListener(each, self.tls) for each in listeners]
                await nursery.start(trio.serve_listeners, self._serve, secured)
            try:
                yield self
            finally:
                nursery.cancel_scope.cancel()

    async def _serve(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while await self._answer(stream, connection):
                connection.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.abc.Stream, connection: h11.Connection) -> bool:
        head, body = None, b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(65_536)))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        assert head is not None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        seen = SeenRequest(head.target.decode(), headers, body)
        number = len(self.requests)
        self.requests.append(seen)
        reply = self.replies[number] if number < len(self.replies) else self._accept(seen)
        if self.lost:
            reply = hang_up
        if not isinstance(reply, tuple):
            await reply(stream)
            return False
        status, more, octets = reply
        fields = [*more.items(), ("Content-Length", str(len(octets)))]
        await stream.send_all(connection.send(h11.Response(status_code=status, headers=fields)) or b"")
        await stream.send_all(connection.send(h11.Data(octets)) or b"")
        await stream.send_all(connection.send(h11.EndOfMessage()) or b"")
        return True

    def _accept(self, seen: SeenRequest) -> tuple[int, dict[str, str], bytes]:
        key = seen.headers.get("idempotency-key")
        if key is None or key not in self.keys:
            self.mails.append(seen)
        if key is not None:
            before = self.keys.setdefault(key, seen.body)
            if before != seen.body:
                return 409, {}, b'{"name": "invalid_idempotent_request"}'
        kept = f"kept-{len(self.mails)}"
        match self.name:
            case "sendgrid":
                return 202, {"X-Message-Id": kept}, b""
            case "postmark":
                return 200, {}, json.dumps({"ErrorCode": 0, "Message": "OK", "MessageID": kept}).encode()
            case "ses":
                return 200, {}, json.dumps({"MessageId": kept}).encode()
            case "mailgun":
                return 200, {}, json.dumps({"id": f"<{kept}>", "message": "Queued. Thank you."}).encode()
            case _:
                return 200, {}, json.dumps({"id": kept}).encode()


def say(octets: bytes) -> Misbehave:
    """Return a reaction that sends these octets and closes."""

    async def react(stream: trio.SocketStream) -> None:
        await stream.send_all(octets)

    return react


async def hang_up(stream: trio.SocketStream) -> None:
    """Close without an answer."""
    await stream.aclose()


async def stay_silent(stream: trio.SocketStream) -> None:
    """Never answer, however long the client stays."""
    with trio.move_on_after(PATIENCE):
        await stream.receive_some(1)
