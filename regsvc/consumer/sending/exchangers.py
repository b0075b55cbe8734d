"""The families of receivers behind domains of their own, known by their MX and looked up beside the sending.

Nothing waits for the DNS: until an answer is there, a domain is a family by itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from regsvc.dns.mail_domains import ask_mail_domain
from regsvc.dns.public_names import is_public
from regsvc.dns.resolver import Resolver
from regsvc.mail.queue.families import family_key
from regsvc.mail.receivers.popular import list_popular
from regsvc.waiting import Alarm

KEPT: Final = 5_000  # domains remembered
WAITING: Final = 200  # domains that wait to be looked up; more are looked up with their next mail
_PATIENCE: Final = 2.0  # seconds for an answer


class Exchangers:
    """The preferred hosts of domains that mail was sent to.

    Args:
        resolver: looks names up.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: OrderedDict[str, str | None] = OrderedDict()
        self._waiting: dict[str, None] = {}  # in order
        self._some = Alarm()

    def key(self, domain: str) -> str:
        """Return the key of a domain's family (`regsvc.mail.queue.families`), as far as it is known."""
        return family_key(domain, self._known.get(domain))

    def note(self, domains: Iterable[str]) -> None:
        """Queue domains for a look-up whose family is not known by their name."""
        for domain in domains:
            if domain in self._known or domain in self._waiting or len(self._waiting) >= WAITING:
                continue
            if family_key(domain) == domain and domain not in list_popular() and is_public(domain):
                self._waiting[domain] = None
                self._some.sound()

    async def learn(self) -> None:
        """Look up what was noted, one after the other, forever."""
        while True:
            await self._some.wait()
            while self._waiting:
                domain = next(iter(self._waiting))
                found = await ask_mail_domain(self._resolver, domain, seconds=_PATIENCE)
                del self._waiting[domain]
                if found.takes_mail is not None:
                    self._known[domain] = next(iter(found.exchangers), None)
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
