"""The relying party: for which site passkeys are made, and on which pages they may be used."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Collection

    from regsvc.config.settings import Settings


@dataclass(frozen=True)
class RelyingParty:
    """The site that passkeys belong to.

    Args:
        id: host of PUBLIC_URL. Passkeys of one host work at no other, so it must stay.
        name: of the service, as password managers show it.
        origins: of pages that may use the passkeys.
    """

    id: str
    name: str
    origins: Collection[str]


def get_relying_party(settings: Settings) -> RelyingParty:
    """Return the relying party that follows from the settings."""
    return RelyingParty(urlsplit(settings.public_url).hostname or "", settings.brand_name, settings.origins)


def supports_passkeys(public_url: str) -> bool:
    """Return whether browsers have passkeys at a URL: HTTPS, or plain HTTP at localhost, and never an IP address."""
    url = urlsplit(public_url)
    host = url.hostname or ""
    try:
        ip_address(host)
    except ValueError:
        return url.scheme == "https" or host == "localhost" or host.endswith(".localhost")
    return False
