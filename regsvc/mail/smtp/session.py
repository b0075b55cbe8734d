"""One conversation with a mail server, from the greeting to QUIT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import trio

from regsvc.mail.outcome import Aborted, Accepted, Delayed, Failure, Outcome, Refused, Stage
from regsvc.mail.smtp import dialogue
from regsvc.mail.smtp.connection import Deadlines, SessionFailedError, Wire
from regsvc.mail.smtp.login import log_in

if TYPE_CHECKING:
    import ssl

    from regsvc.config.mail_url import SmtpServer
    from regsvc.mail.envelope import Envelope

BeforeDot: TypeAlias = Callable[[], bool]
"""Asked right before the final dot whether the mail may still be sent."""

# What is written together with the dot: little enough to fit any socket buffer, so that `before_dot` is asked
# right before the dot leaves and not before minutes of content.
_LAST_OCTETS: Final = 8192
USUAL_OCTETS: Final = 16_384
"""What a mail of ours has at most, but for long names and operators' templates."""
_TLS_PORT: Final = 465  # RFC 8314, 7.3


class SmtpSession:
    """A session that is open, greeted, encrypted and logged in as its server's settings ask.

    It takes one mail after another, one at a time. After anything that leaves the two sides' ideas of the
    conversation apart, a cancelled `deliver` included, `usable` is False and only `drop` is left.
    """

    def __init__(self, wire: Wire) -> None:
        self.usable = True
        self.mails = 0
        self.idle_since = trio.current_time()
        self.greeting = ""
        self._wire = wire
        self._extensions: dialogue.Extensions = {}
        self._transaction_open = False

    @classmethod
    async def open(
        cls,
        server: SmtpServer,
        *,
        deadlines: Deadlines,
        tls: ssl.SSLContext | None,
        client_name: str | None,
    ) -> Self:
        """Connect and say everything that comes before the first mail.

        Args:
            server: Where to, how encrypted, and as whom.
            deadlines: Seconds for each stage.
            tls: Checks the server's certificate and name; needed unless the server's security is "none".
            client_name: Our host name for EHLO; None says the address we connect from (RFC 5321, 4.1.4).

        Raises:
            SessionFailedError: With what stood in the way.
        """
        session = cls(await Wire.connect(server.host, server.port, deadlines))
        try:
            await session._begin(server, tls, client_name)
        except BaseException:
            await session.drop()
            raise
        return session

    async def deliver(self, envelope: Envelope, before_dot: BeforeDot | None = None) -> Outcome:
        """Hand one mail over.

        Args:
            envelope: The mail.
            before_dot: Asked once, right before the dot is written; False drops the session instead.
        """
        planned = dialogue.plan(envelope, self._extensions)
        if not isinstance(planned, dialogue.Transaction):
            return planned
        self.mails += 1
        self.usable = False  # until it is known again where both sides are
        try:
            failure = await self._open_transaction(planned.commands)
            if failure is not None:
                return failure
            content, end = planned.content[:-_LAST_OCTETS], planned.content[-_LAST_OCTETS:]
            if content:
                await self._wire.write("data", content)
            if before_dot is not None and not before_dot():
                return Aborted()
            await self._wire.write("dot", end + b".\r\n")
            reply = await self._wire.reply("dot")
        except SessionFailedError as error:
            return error.failure
        self._transaction_open = False
        failure = dialogue.judge("dot", reply)
        self._settle(failure, reply.code)
        return failure or Accepted(str(reply))

    async def quit(self) -> None:
        """Take leave and close, within seconds whatever the server does."""
        try:
            if self.usable:
                await self._wire.agree("quit", b"QUIT\r\n")
        except SessionFailedError:
            pass  # it ends either way
        finally:
            await self.drop()

    async def drop(self) -> None:
        """Close at once, without a word."""
        self.usable = False
        await self._wire.drop()

    async def prove(self, sender: str) -> Failure | None:
        """Begin a mail as large as ours are and take it back; return what stood in the way, if anything."""
        begin = dialogue.begin_mail(sender, USUAL_OCTETS, self._extensions)
        if not isinstance(begin, bytes):
            return begin
        try:
            await self._wire.agree("mail", begin)
            await self._wire.agree("rset", b"RSET\r\n")
        except SessionFailedError as error:
            return error.failure
        return None

    async def _begin(self, server: SmtpServer, tls: ssl.SSLContext | None, client_name: str | None) -> None:
        if server.security == "tls":
            await self._encrypt(server, tls)
        try:
            self.greeting = str(await self._wire.agree("greeting"))
        except SessionFailedError as error:
            raise SessionFailedError(_blame_scheme(server, error.failure)) from error
        self._wire.reached()
        name = await self._introduce(client_name)
        if server.security == "starttls":
            if "STARTTLS" not in self._extensions:
                raise SessionFailedError(Refused("starttls_not_offered", "starttls"))
            await self._wire.agree("starttls", b"STARTTLS\r\n")
            await self._encrypt(server, tls)
            await self._introduce(name)  # what was offered in clear counts for nothing (RFC 3207, 4.2)
        if server.username is not None and server.password is not None:
            offered = self._extensions.get("AUTH", "").upper().split()
            await log_in(self._wire, offered, server.username, server.password)

    async def _encrypt(self, server: SmtpServer, tls: ssl.SSLContext | None) -> None:
        if tls is None:
            raise ValueError("an encrypted session needs an SSLContext")
        await self._wire.encrypt(server.host, tls)

    async def _introduce(self, name: str | None) -> str | None:
        """Say EHLO with a name, and once more with our address where the name is refused; return what was taken."""
        failure = await self._hello(name or self._wire.own_address)
        if failure is not None and name is not None and not isinstance(failure, Delayed):
            name = None
            failure = await self._hello(self._wire.own_address)
        if failure is not None:
            raise SessionFailedError(failure)
        return name

    async def _hello(self, name: str) -> Failure | None:
        self._extensions = {}
        await self._wire.write("ehlo", f"EHLO {name}\r\n".encode())
        reply = await self._wire.reply("ehlo")
        if reply.code in {500, 502}:  # a server from before 1995 (RFC 5321, 3.2)
            await self._wire.write("ehlo", f"HELO {name}\r\n".encode())
            return dialogue.judge("ehlo", await self._wire.reply("ehlo"))
        failure = dialogue.judge("ehlo", reply)
        if failure is None:
            self._extensions = dialogue.read_extensions(reply)
        return failure

    async def _open_transaction(self, commands: Sequence[dialogue.Command]) -> Failure | None:
        """Say MAIL, RCPT and DATA, in one write where the server can take that (RFC 2920)."""
        if self._transaction_open:  # an earlier mail failed half-way
            commands = (("rset", b"RSET\r\n"), *commands)
        self._transaction_open = True
        pipelining = "PIPELINING" in self._extensions
        for group in [commands] if pipelining else [[command] for command in commands]:
            await self._wire.write(group[0][0], b"".join(line for _, line in group))
            failure = await self._replies([stage for stage, _ in group])
            if failure is not None:
                return failure
        return None

    async def _replies(self, stages: Sequence[Stage]) -> Failure | None:
        """Read a reply for each stage; the first bad one decides, the rest are read to keep in step."""
        failure, codes = None, dict[Stage, int]()
        for stage in stages:
            try:
                reply = await self._wire.reply(stage)
            except SessionFailedError as error:
                return failure or error.failure
            codes[stage] = code = reply.code
            failure = failure or dialogue.judge(stage, reply)
            if code == dialogue.CLOSING:
                break
        if failure is not None:
            if code == dialogue.GO_AHEAD and codes.get("rcpt", 0) // 100 in {4, 5}:
                code = await self._end_empty(failure)
            self._settle(failure, code)
        return failure

    async def _end_empty(self, failure: Failure) -> int:
        """End a DATA that was let in although no recipient was, by a lone dot (RFC 2920, 3.1); return the code.

        The recipient was refused, so whatever the server makes of nothing reaches no one.
        """
        if isinstance(failure, Refused):
            return dialogue.GO_AHEAD  # the session ends anyway
        try:
            await self._wire.write("dot", b".\r\n")
            code = (await self._wire.reply("dot")).code
        except SessionFailedError:
            return dialogue.CLOSING
        self._transaction_open = code // 100 != 2  # noqa: PLR2004 - first digit of a reply that says done
        return code

    def _settle(self, failure: Failure | None, last_code: int) -> None:
        """Keep the session for another mail if both sides know where they are.

        A server that refused us is better met anew. After a 354 it waits for content that will not come.
        """
        self.usable = (
            not self._wire.pending
            and last_code not in {dialogue.CLOSING, dialogue.GO_AHEAD}
            and not isinstance(failure, Refused)
            and (failure is None or failure.reason != "protocol_error")
        )
        self.idle_since = trio.current_time()


def _blame_scheme(server: SmtpServer, failure: Failure) -> Failure:
    """Add to a failure before the greeting that the server wants TLS at once, where that is likely."""
    silent = failure.reason in {"timeout", "disconnected"} and server.port == _TLS_PORT
    if server.security == "tls" or not (silent or failure.reason == "protocol_error"):
        return failure
    hint = f"does port {server.port} want TLS from the start? Then the URL begins with smtps://"
    return replace(failure, reply=f"{failure.reply}; {hint}".removeprefix("; "))
