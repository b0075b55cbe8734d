"""The mailbox that an address names: how it travels in SMTP, and the key by which mailboxes are compared.

Both come from one function, so that an account can never belong to another mailbox than the one its mail goes to.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

import idna

# What may stand between < and > without quoting: dot-string of RFC 5321, 4.1.2, widened by RFC 6531, 3.3.
_LOCAL = re.compile(r"[^\x00-\x20\x7f-\xa0()<>\[\]:;@\\,\"\u2028\u2029\ud800-\udfff]{1,64}")

_LABEL = r"(?!xn--)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


class UnusableAddressError(ValueError):
    """The address cannot stand in an SMTP command or a header."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)  # never the address itself: it may be anything, and is personal


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox at a domain.

    Args:
        local: Local part without quoting, NFC, in the case in which it was typed.
        domain: Lower-case A-labels (RFC 5890).
    """

    local: str
    domain: str

    @property
    def wire(self) -> str:
        """The mailbox as it stands in a command or a header: quoted where dots need that (RFC 5321, 4.1.2)."""
        local = self.local
        if local.startswith(".") or local.endswith(".") or ".." in local:
            local = f'"{local}"'
        return f"{local}@{self.domain}"

    @property
    def key(self) -> str:
        """What two spellings of one mailbox have in common: ASCII case and NFC aside, the mailbox itself."""
        return f"{fold_local(self.local)}@{self.domain}"

    @property
    def untagged_key(self) -> str:
        """The key without a tag behind a plus sign (RFC 5233): for counting only, never for telling accounts apart."""
        base = self.local.partition("+")[0] or self.local
        return f"{fold_local(base)}@{self.domain}"


def read_mailbox(address: str) -> Mailbox:
    """Return the mailbox of an addr-spec without display name, comment or quoting.

    Raises:
        UnusableAddressError: It holds anything that could end the command or header it stands in.
    """
    local, at, domain = address.rpartition("@")
    local = unicodedata.normalize("NFC", local)
    if not at or not _LOCAL.fullmatch(local):
        raise UnusableAddressError
    return Mailbox(local, encode_domain(domain))


def encode_domain(domain: str) -> str:
    """Return a domain as lower-case A-labels: IDNA 2008, mapped as UTS 46 says, non-transitional.

    Every spelling of one domain gives the same; ß, ς, ZWJ and ZWNJ make domains of their own (RFC 5892, 2.6 and A).

    Raises:
        UnusableAddressError: It is no domain name.
    """
    lower = domain.translate(_LOWER)
    if _HOST.fullmatch(lower):
        return lower
    try:
        encoded = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError as error:
        raise UnusableAddressError from error
    if encoded.endswith("."):
        raise UnusableAddressError
    return encoded


def fold_local(local: str) -> str:
    """Return a local part, in NFC, as it is compared: in small ASCII letters.

    A mail server may tell any other two letters apart. A small letter may compose where its capital does not (ẖ), hence
    NFC once more.
    """
    return unicodedata.normalize("NFC", local.translate(_LOWER))
