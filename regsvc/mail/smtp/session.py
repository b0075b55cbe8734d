"""One conversation with a mail server, from the greeting to QUIT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import trio

from regsvc.mail.outcome import Aborted, Accepted, Delayed, Failure, Outcome, Refused, Stage
from regsvc.mail.smtp import dialogue
from regsvc.mail.smtp.connection import Deadlines, SessionFailedError, Wire

if TYPE_CHECKING:
    import ssl

    from regsvc.config.mail_url import SmtpServer
    from regsvc.mail.envelope import Envelope

BeforeDot: TypeAlias = Callable[[], bool]
"""Asked right before the final dot whether the mail may still be sent."""

# What is written together with the dot: little enough to fit any socket buffer, so that `before_dot` is asked
# right before the dot leaves and not before minutes of content.
_LAST_OCTETS: Final = 8192


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

    async def _begin(self, server: SmtpServer, tls: ssl.SSLContext | None, client_name: str | None) -> None:
        name = client_name or self._wire.own_address
        if server.security == "tls":
            await self._encrypt(server, tls)
        self.greeting = str(await self._wire.agree("greeting"))
        await self._hello(name)
        if server.security == "starttls":
            if "STARTTLS" not in self._extensions:
                raise SessionFailedError(Refused("starttls_not_offered", "starttls"))
            await self._wire.agree("starttls", b"STARTTLS\r\n")
            await self._encrypt(server, tls)
            await self._hello(name)  # what was offered in clear counts for nothing (RFC 3207, 4.2)
        if server.username is not None and server.password is not None:
            await self._log_in(server.username, server.password)

    async def _encrypt(self, server: SmtpServer, tls: ssl.SSLContext | None) -> None:
        if tls is None:
            raise ValueError("an encrypted session needs an SSLContext")
        await self._wire.encrypt(server.host, tls)

    async def _hello(self, name: str) -> None:
        self._extensions = {}
        await self._wire.write("ehlo", f"EHLO {name}\r\n".encode())
        reply = await self._wire.reply("ehlo")
        if reply.code in {500, 502}:  # a server from before 1995 (RFC 5321, 3.2)
            await self._wire.agree("ehlo", f"HELO {name}\r\n".encode())
            return
        failure = dialogue.judge("ehlo", reply)
        if failure is not None:
            raise SessionFailedError(failure)
        self._extensions = dialogue.read_extensions(reply)

    async def _log_in(self, username: str, password: str) -> None:
        mechanisms = self._extensions.get("AUTH", "").upper().split()
        if "PLAIN" in mechanisms:
            await self._wire.agree("auth", dialogue.auth_plain(username, password))
        elif "LOGIN" in mechanisms:
            *questioned, last = dialogue.auth_login(username, password)
            for line in questioned:
                await self._wire.write("auth", line)
                reply = await self._wire.reply("auth")
                if reply.code != dialogue.CHALLENGE:
                    failure = dialogue.judge("auth", reply) or Delayed("protocol_error", "auth", str(reply))
                    raise SessionFailedError(failure)
            await self._wire.agree("auth", last)
        else:
            raise SessionFailedError(Refused("auth_not_offered", "auth", " ".join(mechanisms)))

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
        failure, code = None, 0
        for stage in stages:
            try:
                reply = await self._wire.reply(stage)
            except SessionFailedError as error:
                return failure or error.failure
            code = reply.code
            failure = failure or dialogue.judge(stage, reply)
            if code == dialogue.CLOSING:
                break
        if failure is not None:
            self._settle(failure, code)
        return failure

    def _settle(self, failure: Failure | None, last_code: int) -> None:
        """Keep the session for another mail if both sides know where they are.

        A server that refused us is better met anew. After a 354 it waits for content; RFC 2920, 3.1, would send
        it a lone dot, but only dropping the session is sure to hand no empty mail to anybody.
        """
        self.usable = (
            not self._wire.pending
            and last_code not in {dialogue.CLOSING, dialogue.GO_AHEAD}
            and not isinstance(failure, Refused)
            and (failure is None or failure.reason != "protocol_error")
        )
        self.idle_since = trio.current_time()
