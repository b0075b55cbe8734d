"""Whether a domain takes mail, and by which hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from regsvc.dns.resolver import NoAnswerError, Resolver

SECONDS: Final = 1.0
"""Time for all look-ups about one domain."""


@dataclass(frozen=True)
class MailDomain:
    """What the DNS says about the mail of a domain.

    Args:
        takes_mail: None if it is not known.
        exchangers: hosts that take its mail, the preferred one first; empty if they are not known.
    """

    takes_mail: bool | None
    exchangers: tuple[str, ...] = ()


UNKNOWN: Final = MailDomain(None)


async def ask_mail_domain(resolver: Resolver, domain: str, *, seconds: float = SECONDS) -> MailDomain:
    """Return what the DNS says about the mail of a domain.

    It takes no mail if its name does not exist, if it says so (a null MX, RFC 7505), or if it has neither MX nor
    address (RFC 5321, 5.1). Without an answer in time nothing is known.

    Args:
        resolver: looks names up.
        domain: in A-labels.
        seconds: time for all look-ups together.
    """
    deadline = trio.current_time() + seconds
    try:
        records = await resolver.look_up(domain, "MX", seconds=seconds)
        if not records.exists:
            return MailDomain(takes_mail=False)
        if records.texts:
            return _read_exchangers(records.texts)
        for kind in ("A", "AAAA"):
            left = deadline - trio.current_time()
            if left <= 0:
                return UNKNOWN
            if (await resolver.look_up(domain, kind, seconds=left)).texts:
                return MailDomain(takes_mail=True, exchangers=(domain,))
    except NoAnswerError:
        return UNKNOWN
    return MailDomain(takes_mail=False)


def _read_exchangers(texts: tuple[str, ...]) -> MailDomain:
    pairs = sorted((int(preference), host) for preference, _, host in (text.partition(" ") for text in texts))
    hosts = tuple(host.rstrip(".").lower() for _, host in pairs if host.rstrip("."))
    return MailDomain(takes_mail=bool(hosts), exchangers=hosts)
