"""Which names may be looked up on behalf of clients: public ones alone, so that no client asks for our network's."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from email_validator import SPECIAL_USE_DOMAIN_NAMES

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

# RFC 6761 and its successors reserve these; the registry of special-use names has them all.
_RESERVED: Final = frozenset(
    {*SPECIAL_USE_DOMAIN_NAMES, "example.com", "example.net", "example.org", "alt", "internal", "home.arpa"}
)


def is_public(domain: str) -> bool:
    """Return whether a domain (A-labels) is registered under a public suffix and not reserved (RFC 6761)."""
    name = domain.lower().rstrip(".")
    labels = name.split(".")
    if any(".".join(labels[n:]) in _RESERVED for n in range(len(labels))):
        return False
    return _suffixes().privatesuffix(name) is not None


def is_top_level(label: str) -> bool:
    """Return whether there is such a top-level domain."""
    return _suffixes().publicsuffix(label.lower()) is not None


def find_organization(domain: str) -> str:
    """Return the domain that is registered under a public suffix (RFC 7489, 3.2), or the domain itself."""
    name = domain.lower().rstrip(".")
    return _suffixes().privatesuffix(name) or name


@cache
def _suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList  # noqa: PLC0415 - 10,000 rules, read at the first use

    return PublicSuffixList(accept_unknown=False, only_icann=True)
