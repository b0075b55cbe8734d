"""The domains that our mail shows to receivers, and look-ups about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from regsvc.config.mail_url import SmtpServer, read_mail_urls
from regsvc.config.provider_url import MailProvider
from regsvc.dns.public_names import find_organization
from regsvc.dns.resolver import NoAnswerError, Resolver

if TYPE_CHECKING:
    from regsvc.checks.report import Report
    from regsvc.config.settings import Settings

SECONDS: Final = 5.0
"""Time for one look-up."""
# Hosts of services that put their own envelope sender on what they send.
_REWRITING: Final = ("smtp.gmail.com", "smtp-relay.gmail.com", ".amazonaws.com")


@dataclass(frozen=True)
class Sender:
    """Who our mail says that it is from.

    Args:
        settings: of this process.
        resolver: looks names up.
    """

    settings: Settings
    resolver: Resolver

    @property
    def domain(self) -> str:
        """The domain of the header From."""
        return self.settings.mail_from.domain.lower()

    @property
    def envelope(self) -> str:
        """The domain of the envelope sender."""
        path = self.settings.mail_return_path
        return self.domain if path is None else path.domain.lower()

    @property
    def hosts(self) -> list[str]:
        """The mail servers that we hand our mail to."""
        places = [route.place for route in read_mail_urls(self.settings.ways_out)]
        return [place.host.lower() for place in places if isinstance(place, SmtpServer)]

    @property
    def providers(self) -> list[str]:
        """The providers that we hand our mail to by HTTP; they sign it and set its envelope sender."""
        places = [route.place for route in read_mail_urls(self.settings.ways_out)]
        return [place.name for place in places if isinstance(place, MailProvider)]

    @property
    def rewriting(self) -> list[str]:
        """The ways out that replace the envelope sender."""
        return [*(host for host in self.hosts if host.endswith(_REWRITING)), *self.providers]

    async def list_texts(self, name: str, report: Report) -> tuple[str, ...] | None:
        """Return the TXT records of a name, or None after reporting that no answer came."""
        try:
            return (await self.resolver.look_up(name, "TXT", seconds=SECONDS)).texts
        except NoAnswerError as error:
            report.unavailable.append(str(error))
            return None


def is_aligned(one: str, other: str) -> bool:
    """Return whether two domains belong to one organisation (RFC 7489, 3.1)."""
    return find_organization(one) == find_organization(other)
