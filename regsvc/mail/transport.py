"""The one way mail leaves, whichever kind of place it goes to."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Protocol

from regsvc.config.mail_url import MaildirFolder, parse_mail_url
from regsvc.mail.maildir import MaildirTransport
from regsvc.mail.smtp.transport import SmtpTransport

if TYPE_CHECKING:
    from regsvc.mail.envelope import Envelope
    from regsvc.mail.outcome import Outcome
    from regsvc.mail.smtp.connection import Deadlines
    from regsvc.mail.smtp.session import BeforeDot


class Transport(Protocol):
    """What every transport does."""

    async def send(self, envelope: Envelope, before_dot: BeforeDot | None = None) -> Outcome:
        """Hand one mail over and say what became of it; only bugs raise."""

    async def check(self, sender: str | None = None) -> Outcome:
        """Do all that comes before a mail, beginning one from a sender if given; `Accepted` when it could follow."""

    async def tend(self) -> None:
        """Keep house until cancelled; run it beside the senders."""

    async def aclose(self) -> None:
        """Let go of what is open."""


def open_transport(
    url: str,
    *,
    connections: int = 4,
    deadlines: Deadlines | None = None,
    tls: ssl.SSLContext | None = None,
    verify: bool = True,
    client_name: str | None = None,
) -> Transport:
    """Return the transport for a mail URL; nothing is connected or written before it is used.

    Args:
        url: What `parse_mail_url` takes.
        connections: Mails in flight at most.
        deadlines: Seconds for each stage of SMTP.
        tls: In place of the system's trusted authorities.
        verify: False accepts any certificate: for a laptop, never for a password that matters.
        client_name: Our host name for EHLO.

    Raises:
        ConfigurationError: The URL is unusable.
    """
    place = parse_mail_url(url)
    if isinstance(place, MaildirFolder):
        return MaildirTransport(place.path, connections=connections)
    if not verify:
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return SmtpTransport(
        place, connections=connections, deadlines=deadlines, tls=tls, client_name=client_name
    )
