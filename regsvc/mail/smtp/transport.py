"""Mail by SMTP, over several sessions that are kept open and used again."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from regsvc.mail.envelope import Envelope
from regsvc.mail.outcome import Aborted, Accepted, Bounced, Delayed, Outcome, Refused
from regsvc.mail.smtp.connection import Deadlines, SessionFailedError
from regsvc.mail.smtp.session import BeforeDot, SmtpSession

if TYPE_CHECKING:
    from regsvc.config.mail_url import SmtpServer

__all__ = [
    "Aborted",
    "Accepted",
    "BeforeDot",
    "Bounced",
    "Deadlines",
    "Delayed",
    "Envelope",
    "Outcome",
    "Refused",
    "SmtpStatistics",
    "SmtpTransport",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmtpStatistics:
    """How the sessions stand at one moment."""

    busy: int
    idle: int
    opened: int
    """Sessions opened since the start."""


class SmtpTransport:
    """Hands mails to one server, several at a time, so that one slow answer holds up no other mail.

    Args:
        server: Where to, how encrypted, and as whom.
        connections: Sessions at most; further senders wait in line.
        deadlines: Seconds for each stage.
        tls: Checks the server's certificate and host name; None takes the system's trusted authorities.
        client_name: Our host name for EHLO where the server's URL has none; None says the address we connect from.
        idle_seconds: A session unused for longer is not used again; `tend` takes leave of it.
        mails_per_session: After so many a session is replaced; servers count them too.
    """

    def __init__(
        self,
        server: SmtpServer,
        *,
        connections: int = 4,
        deadlines: Deadlines | None = None,
        tls: ssl.SSLContext | None = None,
        client_name: str | None = None,
        idle_seconds: float = 30.0,
        mails_per_session: int = 100,
    ) -> None:
        if client_name is not None and not re.fullmatch(r"[!-~]{1,255}", client_name):
            raise ValueError("the client name is no host name")
        if tls is None and server.security != "none":
            tls = ssl.create_default_context()
        self._server = server
        self._deadlines = deadlines or Deadlines()
        self._tls = tls
        self._client_name = server.ehlo or client_name
        self._idle_seconds = idle_seconds
        self._mails_per_session = mails_per_session
        self._slots = trio.Semaphore(connections)
        self._idle: list[SmtpSession] = []  # the one used last is used next; the rest may grow old
        self._busy = 0
        self._opened = 0
        self._closed = False

    async def send(self, envelope: Envelope, before_dot: BeforeDot | None = None) -> Outcome:
        """Hand one mail over, and say what became of it; nothing the server or network does raises.

        A kept session that turns out to be closed is replaced once, as long as the server cannot have taken
        anything of this mail. Cancelled in the middle, the session is dropped; the mail is then sent only if
        its dot was.

        Args:
            envelope: The mail.
            before_dot: Asked right before the final dot, which can still be withheld; at most once.

        Raises:
            trio.ClosedResourceError: The transport was closed.
        """
        async with self._slots:
            session = await self._take_kept()
            if session is not None:
                outcome = await self._deliver(session, envelope, before_dot)
                if not _was_stale(outcome):
                    return outcome
            try:
                session = await self._open()
            except SessionFailedError as error:
                return error.failure
            return await self._deliver(session, envelope, before_dot)

    async def check(self, sender: str | None = None) -> Outcome:
        """Open a session, log in and take leave; `Accepted` has the server's greeting.

        Args:
            sender: An address to begin a mail from, which is taken back at once: that shows whether the server takes
                mail from it, of the size of ours.
        """
        async with self._slots:
            try:
                session = await self._open()
            except SessionFailedError as error:
                return error.failure
            failure = None if sender is None else await session.prove(sender)
            await session.quit()
            return failure or Accepted(session.greeting)

    async def tend(self) -> None:
        """Close sessions that have been idle for too long; runs until cancelled, beside whoever sends."""
        while True:
            await trio.sleep(self._idle_seconds / 2)
            await self._quit([session for session in self._idle if self._too_old(session)])

    async def aclose(self) -> None:
        """Take leave of the server in every idle session; those in use end with their mail."""
        self._closed = True
        await self._quit(list(self._idle))

    def statistics(self) -> SmtpStatistics:
        """Return how the sessions stand."""
        return SmtpStatistics(busy=self._busy, idle=len(self._idle), opened=self._opened)

    def _too_old(self, session: SmtpSession) -> bool:
        return trio.current_time() - session.idle_since > self._idle_seconds

    async def _take_kept(self) -> SmtpSession | None:
        if self._closed:
            raise trio.ClosedResourceError("the mail transport is closed")
        while self._idle:
            session = self._idle.pop()
            if not self._too_old(session):
                return session
            await session.drop()
        return None

    async def _open(self) -> SmtpSession:
        self._opened += 1
        return await SmtpSession.open(
            self._server, deadlines=self._deadlines, tls=self._tls, client_name=self._client_name
        )

    async def _deliver(
        self, session: SmtpSession, envelope: Envelope, before_dot: BeforeDot | None
    ) -> Outcome:
        self._busy += 1
        try:
            outcome = await session.deliver(envelope, before_dot)
        finally:
            self._busy -= 1
            if not session.usable:
                await session.drop()
        if session.usable:
            if self._closed or session.mails >= self._mails_per_session:
                await session.quit()
            else:
                self._idle.append(session)
        return outcome

    async def _quit(self, sessions: list[SmtpSession]) -> None:
        for session in sessions:
            self._idle.remove(session)
        async with trio.open_nursery() as nursery:
            for session in sessions:
                nursery.start_soon(session.quit)


def _was_stale(outcome: Outcome) -> bool:
    """Whether a kept session was closed before the server said anything to this mail."""
    return (
        isinstance(outcome, Delayed)
        and outcome.stage in ("rset", "mail")
        and outcome.reason in ("disconnected", "service_unavailable")
    )
