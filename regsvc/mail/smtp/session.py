"""A session with a mail server, from the greeting to QUIT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import trio

from regsvc.mail.outcome import Aborted, Accepted, Delayed, Failure, Outcome, Refused, Stage
from regsvc.mail.smtp import dialogue
from regsvc.mail.smtp.connection import Deadlines, SessionFailedError, Wire
from regsvc.mail.smtp.login import TokenSource, log_in, log_in_by_token

if TYPE_CHECKING:
    import ssl

    from regsvc.config.mail_url import SmtpServer
    from regsvc.mail.envelope import Envelope

BeforeDot: TypeAlias = Callable[[], bool]
"""Called right before the final dot: returns whether the mail may still be sent."""
OnConnected: TypeAlias = Callable[[], None]
"""Called once a session is open and logged in, or shows that it is still open."""

# Octets written together with the dot: few enough to fit into any socket buffer, so that `before_dot` is called right
# before the dot, and not before minutes of content.
_LAST_OCTETS: Final = 8192
USUAL_OCTETS: Final = 16_384
"""Maximum size of our mails, apart from long names and operators' templates."""
_TLS_PORT: Final = 465  # RFC 8314, 7.3


class SmtpSession:
    """A session that is open, greeted, encrypted and logged in as the server's settings require.

    It delivers one mail at a time. After anything that may leave the two sides out of step, including a cancelled
    `deliver`, `usable` is False and only `drop` may be called.
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
        token: TokenSource | None = None,
    ) -> Self:
        """Connect, and complete everything that precedes the first mail.

        Args:
            server: address, encryption and credentials.
            deadlines: seconds for each stage.
            tls: checks the server's certificate and name; required unless the server's security is "none".
            client_name: our host name for EHLO; None uses the address we connect from (RFC 5321, 4.1.4).
            token: gives access tokens, for a server that wants XOAUTH2.

        Raises:
            SessionFailedError: with the reason.
        """
        session = cls(await Wire.connect(server.host, server.port, deadlines))
        try:
            await session._begin(server, tls, client_name, token)
        except BaseException:
            await session.drop()
            raise
        return session

    async def deliver(
        self,
        envelope: Envelope,
        before_dot: BeforeDot | None = None,
        on_answered: OnConnected | None = None,
    ) -> Outcome:
        """Deliver one mail.

        Args:
            envelope: the mail.
            before_dot: called once, right before the dot is written; on False the session is dropped instead.
            on_answered: called once, at the server's first reply.
        """
        planned = dialogue.plan(envelope, self._extensions)
        if not isinstance(planned, dialogue.Transaction):
            return planned
        self.mails += 1
        self.usable = False  # until both sides are known to be in step
        try:
            failure = await self._open_transaction(planned.commands, on_answered)
            if failure is not None:
                return failure
            content, end = planned.content[:-_LAST_OCTETS], planned.content[-_LAST_OCTETS:]
            if content:
                await self._wire.write_content(content)
            if before_dot is not None and not before_dot():
                return Aborted()
            await self._wire.write("dot", end + b".\r\n")
            reply = await self._wire.reply("dot")
        except SessionFailedError as error:
            return error.failure
        self._transaction_open = False
        failure = dialogue.judge("dot", reply)
        self._settle(failure, reply.code)
        return failure or Accepted(str(reply), dialogue.find_provider_id(str(reply)))

    async def quit(self) -> None:
        """End the session and close, within seconds even if the server does not answer."""
        try:
            if self.usable:
                await self._wire.agree("quit", b"QUIT\r\n")
        except SessionFailedError:
            pass  # the session ends either way
        finally:
            await self.drop()

    async def drop(self) -> None:
        """Close the connection at once, without QUIT."""
        self.usable = False
        await self._wire.drop()

    async def prove(self, sender: str) -> Failure | None:
        """Begin a mail as large as ours and cancel it. Return the failure, if any."""
        begin = dialogue.begin_mail(sender, USUAL_OCTETS, self._extensions)
        if not isinstance(begin, bytes):
            return begin
        try:
            await self._wire.agree("mail", begin)
            await self._wire.agree("rset", b"RSET\r\n")
        except SessionFailedError as error:
            return error.failure
        return None

    async def _begin(
        self,
        server: SmtpServer,
        tls: ssl.SSLContext | None,
        client_name: str | None,
        token: TokenSource | None,
    ) -> None:
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
            await self._introduce(name)  # extensions offered in clear must be discarded (RFC 3207, 4.2)
        offered = self._extensions.get("AUTH", "").upper().split()
        if server.oauth and server.username is not None and token is not None:
            await log_in_by_token(self._wire, offered, server.username, token)
        elif server.username is not None and server.password is not None:
            await log_in(self._wire, offered, server.username, server.password)

    async def _encrypt(self, server: SmtpServer, tls: ssl.SSLContext | None) -> None:
        if tls is None:
            raise ValueError("an encrypted session needs an SSLContext")
        await self._wire.encrypt(server.host, tls)

    async def _introduce(self, name: str | None) -> str | None:
        """Send EHLO with a name, or with our address if the name is refused. Return the accepted name."""
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

    async def _open_transaction(
        self, commands: Sequence[dialogue.Command], on_answered: OnConnected | None
    ) -> Failure | None:
        """Send MAIL, RCPT and DATA, in one write if the server supports that (RFC 2920)."""
        if self._transaction_open:  # an earlier mail failed midway
            commands = (("rset", b"RSET\r\n"), *commands)
        self._transaction_open = True
        pipelining = "PIPELINING" in self._extensions
        for group in [commands] if pipelining else [[command] for command in commands]:
            await self._wire.write(group[0][0], b"".join(line for _, line in group))
            failure = await self._replies([stage for stage, _ in group], on_answered)
            on_answered = None
            if failure is not None:
                return failure
        return None

    async def _replies(self, stages: Sequence[Stage], on_answered: OnConnected | None) -> Failure | None:
        """Read a reply for each stage. The first negative one counts; the rest are read to stay in step."""
        failure, codes = None, dict[Stage, int]()
        for stage in stages:
            try:
                reply = await self._wire.reply(stage)
            except SessionFailedError as error:
                return failure or error.failure
            if on_answered is not None and not codes:
                on_answered()
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
        """End a DATA that was accepted although no recipient was, with a lone dot (RFC 2920, 3.1). Return the code.

        The recipient was refused, so an empty mail cannot reach a mailbox.
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
        """Keep the session for another mail if both sides are known to be in step.

        After a refusal a new session is safer. After a 354 the server waits for content that will not come.
        """
        self.usable = (
            not self._wire.pending
            and last_code not in {dialogue.CLOSING, dialogue.GO_AHEAD}
            and not isinstance(failure, Refused)
            and (failure is None or failure.reason != "protocol_error")
        )
        self.idle_since = trio.current_time()


def _blame_scheme(server: SmtpServer, failure: Failure) -> Failure:
    """Suggest implicit TLS in a failure before the greeting, if that is its likely cause."""
    silent = failure.reason in {"timeout", "disconnected"} and server.port == _TLS_PORT
    if server.security == "tls" or not (silent or failure.reason == "protocol_error"):
        return failure
    hint = f"if port {server.port} requires implicit TLS, use smtps://"
    return replace(failure, reply=f"{failure.reply}; {hint}".removeprefix("; "))
