"""Send mail by SMTP, over several sessions that are kept open and reused."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import trio

from regsvc.mail.envelope import Envelope
from regsvc.mail.outcome import Aborted, Accepted, Bounced, Delayed, Outcome, Refused
from regsvc.mail.smtp.connection import Deadlines, SessionFailedError
from regsvc.mail.smtp.session import BeforeDot, OnConnected, SmtpSession

if TYPE_CHECKING:
    from regsvc.config.mail_url import SmtpServer
    from regsvc.mail.smtp.login import TokenSource

Sign: TypeAlias = Callable[[bytes], bytes]

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
    """A snapshot of the sessions."""

    busy: int
    idle: int
    opened: int
    """Sessions opened since the start."""


class SmtpTransport:
    """Sends mails to one server, several at a time, so that a slow reply does not delay other mails.

    Args:
        server: address, encryption and credentials.
        connections: maximum number of sessions; further callers wait in line.
        deadlines: seconds for each stage.
        tls: checks the server's certificate and host name; None uses the system's trusted authorities.
        client_name: our host name for EHLO if the server's URL has none; None uses the address we connect from.
        idle_seconds: a session idle for longer is not reused; `tend` closes it.
        mails_per_session: number of mails after which a session is replaced; servers limit it too.
        token: gives access tokens, if the server's URL has `auth=xoauth2`.
        sign: adds signatures to a message.
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
        token: TokenSource | None = None,
        sign: Sign | None = None,
    ) -> None:
        if client_name is not None and not re.fullmatch(r"[!-~]{1,255}", client_name):
            raise ValueError("the client name is not a host name")
        if tls is None and server.security != "none":
            tls = ssl.create_default_context()
        self._server = server
        self._deadlines = deadlines or Deadlines()
        self._tls = tls
        self._client_name = server.ehlo or client_name
        self._token = token
        self._sign = sign
        self._idle_seconds = idle_seconds
        self._mails_per_session = mails_per_session
        self._slots = trio.Semaphore(connections)
        self._idle: list[SmtpSession] = []  # the last one used is used next; the others may become idle
        self._busy = 0
        self._opened = 0
        self._closed = False

    async def send(
        self,
        envelope: Envelope,
        before_dot: BeforeDot | None = None,
        on_connected: OnConnected | None = None,
    ) -> Outcome:
        """Send one mail and return the outcome. Errors of the server or network are outcomes and do not raise.

        A kept session that turns out to be closed is replaced once, if the server cannot have received any of this
        mail. On a cancellation the session is dropped, and the mail was sent only if its dot was.

        Args:
            envelope: the mail.
            before_dot: called right before the final dot, at most once; on False the dot is not sent.
            on_connected: called once a session is open, or the server has answered over a kept one.

        Raises:
            trio.ClosedResourceError: the transport was closed.
        """
        if self._sign is not None:
            envelope = replace(envelope, data=self._sign(envelope.data))
        async with self._slots:
            session = await self._take_kept()
            if session is not None:
                outcome = await self._deliver(session, envelope, before_dot, on_connected)
                if not _was_stale(outcome):
                    return outcome
            try:
                session = await self._open()
            except SessionFailedError as error:
                return error.failure
            if on_connected is not None:
                on_connected()
            return await self._deliver(session, envelope, before_dot)

    async def check(self, sender: str | None = None) -> Outcome:
        """Open a session, log in and quit. `Accepted` has the server's greeting.

        Args:
            sender: address from which to begin a mail, which is cancelled at once, to check that the server accepts
                mails from it, of the size of ours.
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
        """Close sessions that have been idle for too long. Runs until cancelled, beside the senders."""
        while True:
            await trio.sleep(self._idle_seconds / 2)
            await self._quit([session for session in self._idle if self._too_old(session)])

    async def aclose(self) -> None:
        """End all idle sessions; those in use end after their mail."""
        self._closed = True
        await self._quit(list(self._idle))

    def statistics(self) -> SmtpStatistics:
        """Return a snapshot of the sessions."""
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
            self._server,
            deadlines=self._deadlines,
            tls=self._tls,
            client_name=self._client_name,
            token=self._token,
        )

    async def _deliver(
        self,
        session: SmtpSession,
        envelope: Envelope,
        before_dot: BeforeDot | None,
        on_answered: OnConnected | None = None,
    ) -> Outcome:
        self._busy += 1
        try:
            outcome = await session.deliver(envelope, before_dot, on_answered)
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
    """Return whether a kept session was closed before the server answered anything to this mail."""
    return (
        isinstance(outcome, Delayed)
        and outcome.stage in ("rset", "mail")
        and outcome.reason in ("disconnected", "service_unavailable")
    )
