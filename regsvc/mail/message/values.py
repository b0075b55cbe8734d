"""The values allowed in a message: each kind of value, and the check that makes it safe to print.

Messages go to addresses typed by strangers, so any text that a stranger can place in one is advertising space in our
name. Hence no user's name is ever put into a message, and descriptions of a client are stripped until they can be
neither a link nor a sentence.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, TypeAlias

from regsvc.mail.mailbox import UnusableAddressError, wire_of

_URL: Final = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&*+,;=%-]{1,900}")
_CODE: Final = re.compile(r"[0-9]{6}")
# An encoded word in a value makes Python before 3.11.10 write headers of an attacker's choice.
_HEADER_UNSAFE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|=\\?")
_SHOWN_CHARACTERS: Final = 60
_SHOWN_PUNCTUATION: Final = frozenset(" -_,()+:./")
# Dots and slashes stay only in a version or a network, "128.0" and "203.0.113.0/24":
# a mail program makes a link of anything like "example.org" or "http://".
_LINK_LIKE: Final = re.compile(r"(?<![0-9])\.|\.(?![0-9])|(?<![0-9:])/|/(?![0-9])")


def check_link(link: str) -> str:
    """Check and return an http(s) URL.

    Raises:
        ValueError: The text is not an http(s) URL, or too long for one line.
    """
    if not _URL.fullmatch(link):
        raise ValueError("a link in a message is not an http(s) URL")
    return link


def check_optional_link(link: str | None) -> str | None:
    """Check and return an http(s) URL, or None."""
    return None if link is None else check_link(link)


def check_code(code: str) -> str:
    """Check and return a code of six digits.

    Raises:
        ValueError: The text is not such a code.
    """
    if not _CODE.fullmatch(code):
        raise ValueError("a code in a message does not have six digits")
    return code


@lru_cache(maxsize=256)  # browsers and networks repeat
def clean(text: str) -> str:
    """Return the harmless part of a text that a stranger influenced: letters, digits, some punctuation."""
    kept = "".join(
        char if char in _SHOWN_PUNCTUATION or unicodedata.category(char)[0] in "LMN" else " " for char in text
    )
    return " ".join(_LINK_LIKE.sub(" ", kept).split())[:_SHOWN_CHARACTERS].rstrip()


def check_moment(moment: datetime) -> datetime:
    """Return a time in UTC.

    Raises:
        ValueError: The time has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a time in a message has no time zone")
    return moment.astimezone(UTC)


def check_header(value: str) -> str:
    """Check and return a header's value.

    Raises:
        ValueError: The value holds a control character, a line or paragraph separator, or an encoded word.
    """
    if _HEADER_UNSAFE.search(value):
        raise ValueError("a header of a message would hold a control character or an encoded word")
    return value


def header_address(address: str) -> str:
    """Return an address in its form for a header.

    Raises:
        UnusableAddressError: The address is not allowed in a header.
    """
    if _HEADER_UNSAFE.search(address):
        raise UnusableAddressError
    return wire_of(address)


def mask_address(address: str) -> str:
    """Mask an address so that its owner recognises it and a reader cannot write to it: `a***@e***.com`.

    A stranger may have chosen the domain, so it is not shown whole either.
    """
    local, _, domain = address.rpartition("@")
    name, _, top = domain.rpartition(".")
    kept = [part[:1] if part[:1].isalnum() else "*" for part in (local, name)]
    return f"{kept[0]}***@{kept[1]}***.{''.join(char for char in top if char.isalnum() or char == '-')}"


class Word(str):
    """The name of a text that every language has."""

    __slots__ = ()


def check_change(name: str) -> Word:
    """Return the name of a text in the table `changes`."""
    return Word(name)


Link: TypeAlias = Annotated[str, check_link]
OptionalLink: TypeAlias = Annotated[str | None, check_optional_link]
Code: TypeAlias = Annotated[str, check_code]
Shown: TypeAlias = Annotated[str, clean]
Masked: TypeAlias = Annotated[str, mask_address]
Change: TypeAlias = Annotated[str, check_change]
Moment: TypeAlias = Annotated[datetime, check_moment]
