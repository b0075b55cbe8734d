"""What may stand in a mail: each kind of value, and the check that makes it safe to print.

Mails go to addresses that strangers typed, so whatever a stranger can write into one is advertising space with
our good name on it. Hence no person's name is ever put into a mail, and what describes the stranger's client is
stripped until it can be neither a link nor a sentence's worth of text.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias

from regsvc.mail.mailbox import UnusableAddressError, read_mailbox

_URL: Final = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&*+,;=%-]{1,900}")
_CODE: Final = re.compile(r"[0-9]{6}")
# An encoded word in a value makes Python before 3.11.10 write headers of the sender's choice.
_HEADER_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|=\\?")
_SHOWN_CHARACTERS: Final = 60
_SHOWN_PUNCTUATION: Final = frozenset(" -_,()+:./")
# Dots and slashes stay where they belong to a version or a network, "128.0" and "203.0.113.0/24", and nowhere
# else: a mail program makes a link of anything like "example.org" or "http://".
_LINK_LIKE: Final = re.compile(r"(?<![0-9])\.|\.(?![0-9])|(?<![0-9:])/|/(?![0-9])")


def check_link(link: str) -> str:
    """Return an http(s) URL as it is.

    Raises:
        ValueError: It is none, or too long for a line of its own.
    """
    if not _URL.fullmatch(link):
        raise ValueError("a link in a mail is no http(s) URL")
    return link


def check_optional_link(link: str | None) -> str | None:
    """Return None, or an http(s) URL as it is."""
    return None if link is None else check_link(link)


def check_code(code: str) -> str:
    """Return a code of six digits as it is.

    Raises:
        ValueError: It is none.
    """
    if not _CODE.fullmatch(code):
        raise ValueError("a code in a mail has other than six digits")
    return code


def clean(text: str) -> str:
    """Return what is harmless of a text that a stranger had a hand in: letters, digits, a little punctuation."""
    kept = "".join(
        char if char in _SHOWN_PUNCTUATION or unicodedata.category(char)[0] in "LMN" else " " for char in text
    )
    return " ".join(_LINK_LIKE.sub(" ", kept).split())[:_SHOWN_CHARACTERS].rstrip()


def check_moment(moment: datetime) -> datetime:
    """Return a moment in UTC.

    Raises:
        ValueError: It does not say its time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment in a mail has no time zone")
    return moment.astimezone(UTC)


def check_header(value: str) -> str:
    """Return a header's value as it is.

    Raises:
        ValueError: It holds a control character, a line or paragraph separator, or an encoded word.
    """
    if _HEADER_UNSAFE.search(value):
        raise ValueError("a header of a mail would hold a control character or an encoded word")
    return value


def header_address(address: str) -> str:
    """Return an address as it stands in a header.

    Raises:
        UnusableAddressError: It cannot stand there.
    """
    if _HEADER_UNSAFE.search(address):
        raise UnusableAddressError
    return read_mailbox(address).wire


def mask_address(address: str) -> str:
    """Return an address that its owner recognises and no stranger can write to: `a***@e***.com`.

    The domain may be one that a stranger chose, so that it is not shown whole either.
    """
    local, _, domain = address.rpartition("@")
    name, _, top = domain.rpartition(".")
    kept = [part[:1] if part[:1].isalnum() else "*" for part in (local, name)]
    return f"{kept[0]}***@{kept[1]}***.{''.join(char for char in top if char.isalnum() or char == '-')}"


Link: TypeAlias = Annotated[str, check_link]
OptionalLink: TypeAlias = Annotated[str | None, check_optional_link]
Code: TypeAlias = Annotated[str, check_code]
Shown: TypeAlias = Annotated[str, clean]
Masked: TypeAlias = Annotated[str, mask_address]
Moment: TypeAlias = Annotated[datetime, check_moment]
