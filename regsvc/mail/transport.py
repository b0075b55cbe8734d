"""The interface of all transports for mail, and their choice by URL."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Protocol

from regsvc.config.mail_url import MaildirFolder, Place, load_authorities, parse_mail_url
from regsvc.config.provider_url import MailProvider
from regsvc.errors import ConfigurationError
from regsvc.mail.maildir import MaildirTransport
from regsvc.mail.providers.transport import ProviderTransport
from regsvc.mail.smtp.transport import SmtpTransport

if TYPE_CHECKING:
    from regsvc.mail.envelope import Envelope
    from regsvc.mail.outcome import Outcome
    from regsvc.mail.smtp.connection import Deadlines
    from regsvc.mail.smtp.login import TokenSource
    from regsvc.mail.smtp.session import BeforeDot, OnConnected
    from regsvc.mail.smtp.transport import Sign


class Transport(Protocol):
    """The interface of a transport."""

    async def send(
        self,
        envelope: Envelope,
        before_dot: BeforeDot | None = None,
        on_connected: OnConnected | None = None,
    ) -> Outcome:
        """Send one mail and return the outcome. Only bugs raise."""

    async def check(self, sender: str | None = None) -> Outcome:
        """Do everything that precedes a mail, and begin one if a sender is given. `Accepted` if it could follow."""

    async def tend(self) -> None:
        """Maintain the transport until cancelled. Run it beside the senders."""

    async def aclose(self) -> None:
        """Close everything that is open."""


def open_transport(
    url: str,
    *,
    connections: int = 4,
    deadlines: Deadlines | None = None,
    tls: ssl.SSLContext | None = None,
    verify: bool = True,
    client_name: str | None = None,
) -> Transport:
    """Return the transport for one mail URL. It connects or writes nothing before it is used.

    Args:
        url: URL for `parse_mail_url`.
        connections: maximum number of mails in flight.
        deadlines: seconds for each stage of SMTP.
        tls: replaces the trusted authorities of the URL and of the system.
        verify: False accepts any certificate: only for development, never with an important password.
        client_name: our host name for EHLO.

    Raises:
        ConfigurationError: the URL is invalid, or its cafile cannot be used.
    """
    return open_place(
        parse_mail_url(url),
        connections=connections,
        deadlines=deadlines,
        tls=tls,
        verify=verify,
        client_name=client_name,
    )


def open_place(
    place: Place,
    *,
    connections: int = 4,
    deadlines: Deadlines | None = None,
    tls: ssl.SSLContext | None = None,
    verify: bool = True,
    client_name: str | None = None,
    token: TokenSource | None = None,
    sign: Sign | None = None,
) -> Transport:
    """Return the transport for a place, as `open_transport`.

    Args:
        place: where mail goes.
        connections: maximum number of mails in flight.
        deadlines: seconds for each stage.
        tls: replaces the trusted authorities of the URL and of the system.
        verify: False accepts any certificate.
        client_name: our host name for EHLO.
        token: gives access tokens for XOAUTH2.
        sign: adds signatures to what goes by SMTP; providers sign by themselves.

    Raises:
        ConfigurationError: its cafile cannot be used.
    """
    if isinstance(place, MaildirFolder):
        return MaildirTransport(place.path, connections=connections)
    if isinstance(place, MailProvider):
        return ProviderTransport(place, connections=connections, deadlines=deadlines, tls=tls)
    if not verify:
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    elif tls is None and place.cafile is not None:
        try:
            tls = load_authorities(place.cafile)
        except ValueError as error:
            raise ConfigurationError(f"the mail URL {error}") from error
    return SmtpTransport(
        place,
        connections=connections,
        deadlines=deadlines,
        tls=tls,
        client_name=client_name,
        token=token,
        sign=sign,
    )
