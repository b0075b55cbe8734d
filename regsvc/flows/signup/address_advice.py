"""Advice on an address while it is typed: whether its domain is a slip, or takes no mail.

The answer follows from the domain alone, and refuses nothing: a sign-up asks no DNS.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import StringConstraints

from regsvc.accounts.address import MAX_TYPED, AddressError, parse_address, trim_address
from regsvc.accounts.limits.rate_limit import Limit
from regsvc.dns.mail_domains import ask_mail_domain
from regsvc.dns.public_names import is_public
from regsvc.dns.resolver import NoAnswerError
from regsvc.flows.caller import Caller
from regsvc.flows.rate_limits import throttle
from regsvc.flows.service import Service
from regsvc.mail.mailbox import UnusableAddressError, encode_domain
from regsvc.mail.receivers.popular import list_popular
from regsvc.mail.receivers.slips import correct_known, guess
from regsvc.schemas.fields import Body

ADVICE: Final = Limit("address-advice", 60, 60)

Problem = Literal["takes_no_mail"]


class AdviceBody(Body):
    """An address as far as it is typed."""

    email: Annotated[str, StringConstraints(max_length=MAX_TYPED)]


@dataclass(frozen=True)
class Advice:
    """What to tell a person who types an address.

    Args:
        suggestion: the address that was probably meant.
        problem: what is wrong with the typed one.
    """

    suggestion: str | None = None
    problem: Problem | None = None


async def advise(service: Service, caller: Caller, typed: str) -> Advice:
    """Return advice on an address; none if the DNS is slow or the client has two look-ups under way.

    Raises:
        RateLimitedError: the client asks too often.
        DatabaseUnavailableError: the limits cannot be counted.
    """
    await throttle(service, caller, ADVICE)
    local, at, domain = trim_address(typed).rpartition("@")
    if not at or not local or not domain:
        return Advice()
    if known := correct_known(domain):
        return Advice(_offer(local, known))
    name = _find_public(domain, service.settings.local_domains)
    if name is None or name in list_popular():
        return Advice()
    try:
        with service.look_ups.counted(caller.network) as resolver:
            found = await ask_mail_domain(resolver, name)
    except NoAnswerError:
        return Advice()
    if found.takes_mail is not False:
        return Advice()
    meant = guess(name)
    return Advice(None if meant is None else _offer(local, meant), "takes_no_mail")


def _offer(local: str, domain: str) -> str | None:
    """Return an address to suggest, if it is one that a sign-up takes."""
    try:
        return parse_address(f"{local}@{domain}").email
    except AddressError:
        return None


def _find_public(domain: str, local_domains: Collection[str]) -> str | None:
    """Return a domain in A-labels if it may be looked up on behalf of strangers."""
    try:
        name = encode_domain(domain)
    except UnusableAddressError:
        return None
    if any(name == one or (one.startswith("*.") and name.endswith(one[1:])) for one in local_domains):
        return None
    return name if is_public(name) else None
