"""Email addresses: parsing of typed ones, the mailbox that receives their mail, and the key of their account.

An account belongs to exactly the mailbox that receives its mail (`regsvc.mail.mailbox`): the domain as A-labels, the
local part up to NFC and ASCII case. No other rule makes two addresses equal.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import idna
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

from regsvc.mail.mailbox import UnusableAddressError, encode_domain, fold_local, read_mailbox

MAX_BYTES = 254  # RFC 5321 section 4.5.3.1.3, less the angle brackets
MAX_TYPED = 320  # characters, including what phones and forms add

_JOINERS = "\u200c\u200d"  # ZWNJ and ZWJ, which some scripts need (RFC 5892, A.1 and A.2)
_DOTS = (".", "\u3002", "\uff0e", "\uff61")  # all label separators (UTS 46, 4)
_SPACES = "\t\n\v\f\r\x85"
_RESERVED = frozenset(SPECIAL_USE_DOMAIN_NAMES) - {"test"}  # `.test` never leaves a test bench
# Mobile carriers that issued local parts with consecutive or final dots, against RFC 5321; customers still have them.
_DOTTED = (
    "docomo.ne.jp",
    "ezweb.ne.jp",
    "au.com",
    "softbank.ne.jp",
    "vodafone.ne.jp",
    "disney.ne.jp",
    "pdx.ne.jp",
)


class AddressError(ValueError):
    """Not a deliverable email address; the text says why."""


@dataclass(frozen=True)
class Address:
    """An address as displayed and as compared.

    Args:
        email: For display and sending: the local part in NFC as typed, the domain as U-labels.
        key: The mailbox that receives its mail. Addresses with the same key are the same address.
    """

    email: str
    key: str


def trim_address(text: str) -> str:
    """Strip what phones and forms add around a typed address.

    That is white space, invisible characters, `mailto:`, a pair of angle brackets, and one dot after the domain.
    """
    text, dotted = _strip(text), False
    for _ in range(2):  # brackets and the rest may be nested either way
        if not dotted and text.endswith(_DOTS):
            text, dotted = _strip(text[:-1]), True
        if text[:7].lower() == "mailto:":
            text = _strip(text[7:])
        if text.startswith("<") and text.endswith(">"):
            text = _strip(text[1:-1])
    return text


def parse_address(text: str, local_domains: Collection[str] = ()) -> Address:
    """Parse a typed address.

    Accept one plain address with a domain name: no display name, list, group, quoted local part, comment or IP literal,
    and no line break or encoded word that could inject a header.

    Args:
        text: The address as typed; see `trim_address`.
        local_domains: Domains (A-labels, or `*.` and a domain for those below it) to accept although they are
            not public.

    Raises:
        AddressError: The text is not a deliverable address.
    """
    text = trim_address(text)
    if len(text) > MAX_TYPED:
        raise AddressError("The address is too long.")
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError("An email address needs an @ sign.")
    if "=?" in text or _has_unsafe(local) or _has_unsafe(domain, but=_JOINERS):
        raise AddressError("The address contains invalid characters.")
    try:
        mailbox = read_mailbox(f"x@{domain}")
        unicode_domain = idna.decode(mailbox.domain) if "xn--" in mailbox.domain else mailbox.domain
    except (UnusableAddressError, idna.IDNAError) as error:
        raise AddressError("The part after the @ sign is not a domain name.") from error
    _check_domain(mailbox.domain, unicode_domain, local_domains)
    address = to_address(f"{_check_local(local, mailbox.domain)}@{unicode_domain}")
    if max(len(address.email.encode()), len(address.key.encode())) > MAX_BYTES:
        raise AddressError("The address is too long.")
    return address


def to_address(email: str) -> Address:
    """Parse a stored `email`, which was validated when it was typed.

    Raises:
        AddressError: The text is not a valid address.
    """
    try:
        return Address(email, read_mailbox(email).key)
    except UnusableAddressError as error:
        raise AddressError("The address contains invalid characters.") from error


def find_key(text: str) -> str | None:
    """Return the lookup key of a typed address, even if sign-up would refuse it; None if it has no key."""
    try:
        return read_mailbox(trim_address(text)).key
    except UnusableAddressError:
        return None


def find_key_prefixes(text: str) -> list[str]:
    """Return the key prefixes of addresses that begin with a text: as typed, in lower case, and as A-labels."""
    found = []
    # Of the beginning of an address a dot at its end may be a part.
    text = trim_address(text) if "@" in text else text.strip()
    for variant in (text, text.lower()):
        local, at, domain = unicodedata.normalize("NFC", variant).rpartition("@")
        found.append(fold_local(local + at + domain))
        if at:
            with suppress(UnusableAddressError):
                found.append(f"{fold_local(local)}@{encode_domain(domain)}")
    return list(dict.fromkeys(found))


def strip_tag(email_key: str) -> str:
    """Return the key of an address without its tag, for limits that tags must not multiply."""
    try:
        return read_mailbox(email_key).untagged_key
    except UnusableAddressError:
        return email_key


def _strip(text: str) -> str:
    start, end = 0, len(text)
    while start < end and _is_around(text[start]):
        start += 1
    while start < end and _is_around(text[end - 1]):
        end -= 1
    return text[start:end]


def _is_around(char: str) -> bool:
    return char in _SPACES or unicodedata.category(char) in {"Zs", "Zl", "Zp", "Cf"}


def _has_unsafe(text: str, but: str = "") -> bool:
    return any(
        unicodedata.category(char) in {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}
        for char in text
        if char not in but
    )


def _check_local(local: str, domain: str) -> str:
    """Validate a local part at this domain, and return it in NFC."""
    checked = local
    if local[:1] != "." and any(domain == name or domain.endswith(f".{name}") for name in _DOTTED):
        checked = re.sub(r"\.+", ".", local).removesuffix(".")
    try:
        valid = validate_email(
            f"{checked}@example.com",
            check_deliverability=False,
            allow_smtputf8=True,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
            strict=True,  # the local part has 64 characters at most (RFC 5321 section 4.5.3.1.1)
        )
    except EmailNotValidError as error:
        raise AddressError(str(error)) from error
    return (valid.local_part or "") if checked == local else unicodedata.normalize("NFC", local)


def _check_domain(domain: str, shown: str, local_domains: Collection[str]) -> None:
    """Check a domain beyond its characters.

    Args:
        domain: The domain as A-labels.
        shown: The domain as U-labels.
        local_domains: See `parse_address`.

    Raises:
        AddressError: The domain cannot receive mail.
    """
    labels = domain.split(".")
    if any(re.match(r"(?!xn)..--", label) for label in labels):  # reserved (RFC 5890, 2.3.1)
        raise AddressError("The part after the @ sign is not a domain name.")
    if any(unicodedata.bidirectional(char) in {"R", "AL", "AN"} for char in shown):
        try:
            for label in shown.split(
                "."
            ):  # all labels of a domain with a right-to-left label (RFC 5893, 1.4)
                idna.check_bidi(label, check_ltr=True)
        except idna.IDNAError as error:
            raise AddressError("The part after the @ sign is not a domain name.") from error
    if any(domain == name or (name.startswith("*.") and domain.endswith(name[1:])) for name in local_domains):
        return
    if len(labels) < 2 and domain != "test":  # noqa: PLR2004 - a name and what it is under
        raise AddressError("The part after the @ sign needs a dot.")
    if not labels[-1][-1].isalpha() or any(".".join(labels[n:]) in _RESERVED for n in range(len(labels))):
        raise AddressError("The part after the @ sign is not a public domain name.")
