"""The transport for all configured ways out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsvc.config.dkim_keys import load_keys
from regsvc.config.mail_url import parse_mail_urls
from regsvc.mail.message.dkim import Signer
from regsvc.mail.routes.router import Router
from regsvc.mail.smtp.client_name import choose_client_name
from regsvc.mail.smtp.connection import Deadlines
from regsvc.mail.transport import Transport, open_place

if TYPE_CHECKING:
    from regsvc.config.settings import Settings
    from regsvc.mail.smtp.login import TokenSource


def open_ways_out(settings: Settings, token: TokenSource | None = None) -> Transport:
    """Return the configured transport: a `Router` if there are several routes.

    Args:
        settings: of the process.
        token: gives access tokens for routes with `auth=xoauth2`.

    Raises:
        ConfigurationError: a URL or its cafile cannot be used.
    """
    routes = parse_mail_urls(settings.ways_out)
    # Mails that wait for a route that does not answer are set aside, and others sent meanwhile.
    connections = settings.smtp_sessions * min(2, len(routes))
    transports = {
        route.name: open_place(
            route.place,
            connections=connections,
            deadlines=Deadlines(
                connect=settings.smtp_connect_seconds,
                command=settings.smtp_command_seconds,
                data=settings.smtp_data_seconds,
                after_dot=settings.smtp_accept_seconds,
            ),
            client_name=choose_client_name(settings.mail_from.domain),
            token=token,
            sign=None if (signer := make_signer(settings)) is None else signer.sign,
        )
        for route in routes
    }
    return next(iter(transports.values())) if len(transports) == 1 else Router(transports)


def make_signer(settings: Settings) -> Signer | None:
    """Return what signs mails of the sender's domain, or None without a DKIM key."""
    if settings.dkim_key is None:
        return None
    keys = load_keys(settings.dkim_key.get_secret_value(), settings.dkim_selector)
    return Signer(settings.mail_from.domain.lower(), keys)
