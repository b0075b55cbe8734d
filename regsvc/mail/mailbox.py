"""The mailbox of an address: its form in SMTP, and the key for comparing mailboxes.

Both come from one function, so that an account's mail always goes to the mailbox that its key stands for.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_lowercase, ascii_uppercase

from regsvc.config.signup import domain_names

# Local parts that need no quoting between < and >: dot-string of RFC 5321, 4.1.2, widened by RFC 6531, 3.3.
_LOCAL = re.compile(r"[^\x00-\x20\x7f-\xa0()<>\[\]:;@\\,\"\u2028\u2029\ud800-\udfff]{1,64}")

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


class UnusableAddressError(ValueError):
    """The address cannot be used in an SMTP command or a header."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)  # without the address, which is personal and may contain anything


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox at a domain.

    Args:
        local: local part without quoting, in NFC, in the case in which it was typed.
        domain: lower-case A-labels (RFC 5890).
    """

    local: str
    domain: str

    @property
    def wire(self) -> str:
        """The mailbox in a command or header, with the local part quoted if its dots require that (RFC 5321, 4.1.2)."""
        local = self.local
        if local.startswith(".") or local.endswith(".") or ".." in local:
            local = f'"{local}"'
        return f"{local}@{self.domain}"

    @property
    def key(self) -> str:
        """The key that all spellings of a mailbox share, without differences of ASCII case and NFC."""
        return f"{fold_local(self.local)}@{self.domain}"

    @property
    def untagged_key(self) -> str:
        """The key without a tag after a plus sign (RFC 5233): for counting only, never for identifying accounts."""
        base = self.local.partition("+")[0] or self.local
        return f"{fold_local(base)}@{self.domain}"


def read_mailbox(address: str) -> Mailbox:
    """Return the mailbox of an addr-spec without display name, comment or quoting.

    Raises:
        UnusableAddressError: it contains a character that could end a command or header.
    """
    local, at, domain = address.rpartition("@")
    local = unicodedata.normalize("NFC", local)
    if not at or not _LOCAL.fullmatch(local):
        raise UnusableAddressError
    return Mailbox(local, encode_domain(domain))


@lru_cache(maxsize=64)
def wire_of(address: str) -> str:
    """Return an address as it stands in a command or header; one mail asks for the same ones several times.

    Raises:
        UnusableAddressError: as `read_mailbox`.
    """
    return read_mailbox(address).wire


def encode_domain(domain: str) -> str:
    """Return a domain as lower-case A-labels; see `regsvc.config.signup.domain_names`.

    Raises:
        UnusableAddressError: it is not a domain name.
    """
    try:
        return domain_names.encode_domain(domain)
    except ValueError as error:
        raise UnusableAddressError from error


def fold_local(local: str) -> str:
    """Return a local part in NFC with ASCII capitals in lower case, for comparison.

    A mail server may distinguish any other two letters. A small letter may compose where its capital does not (ẖ),
    hence NFC again.
    """
    return unicodedata.normalize("NFC", local.translate(_LOWER))
