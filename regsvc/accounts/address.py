"""What counts as an e-mail address here, and when two are the same."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from email_validator import EmailNotValidError, validate_email

MAX_BYTES = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets


class AddressError(ValueError):
    """Not an address that mail can be sent to; the text says why."""


@dataclass(frozen=True)
class Address:
    """An address as mail is sent to it, and as it is compared.

    Args:
        email: normalised (RFC 5321, 6531; NFC; the domain in lower case).
        key: the whole of it case-folded: two addresses with one key are one address.
    """

    email: str
    key: str


def parse_address(text: str) -> Address:
    """Return the address that a text is.

    One plain address with a domain name: no display name, list, group, quoted local part, comment, or IP literal,
    and no line break or encoded word that could grow into a header.

    Raises:
        AddressError: it is none.
    """
    if "=?" in text or any(unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp", "Cs"} for char in text):
        raise AddressError("The address has characters that an address cannot have.")
    try:
        valid = validate_email(
            text,
            check_deliverability=False,
            allow_smtputf8=True,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
            globally_deliverable=True,
            strict=True,  # the local part has 64 octets at most (RFC 5321 section 4.5.3.1.1)
            test_environment=True,  # lets `.test` through, which never leaves a test bench
        )
    except EmailNotValidError as error:
        raise AddressError(str(error)) from error
    if len(valid.normalized.encode()) > MAX_BYTES:
        raise AddressError("The address is too long.")
    return Address(valid.normalized, unicodedata.normalize("NFC", valid.normalized.casefold()))
