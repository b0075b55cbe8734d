"""What is handed to a transport: two addresses and the octets of one RFC 5322 message."""

from __future__ import annotations

import re
from dataclasses import dataclass

import idna

MAX_LINE = 998
"""Octets of a line without its CRLF (RFC 5322, 2.1.1)."""

# What may stand between < and > without quoting: dot-string of RFC 5321, 4.1.2, widened by RFC 6531, 3.3.
_LOCAL = re.compile(r"[^\x00-\x20\x7f-\xa0()<>\[\]:;@\\,\"\u2028\u2029\ud800-\udfff]{1,64}")

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")


class UnusableAddressError(ValueError):
    """The address cannot stand in an SMTP command or a header."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)  # never the address itself: it may be anything, and is personal


def wire_address(address: str) -> str:
    """Return `address` as it travels: the local part as it is, the domain as A-labels (RFC 5890).

    Args:
        address: An addr-spec without display name or quoting, as the sign-up accepted it.

    Raises:
        UnusableAddressError: It holds anything that could end the command or header it stands in.
    """
    local, at, domain = address.rpartition("@")
    if not at or not _LOCAL.fullmatch(local):
        raise UnusableAddressError
    if _HOST.fullmatch(domain):
        return address
    try:
        ascii_domain = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError as error:
        raise UnusableAddressError from error
    return f"{local}@{ascii_domain}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message for one recipient.

    Args:
        sender: Address for MAIL FROM, ASCII; where bounces go.
        recipient: Address for RCPT TO, as the person typed it.
        data: The message with CRLF line ends, not dot-stuffed, its last line ended.

    Raises:
        ValueError: `data` has a bare CR or LF, a NUL, a line over 998 octets or no final CRLF, or the sender
            is unusable. All of these are bugs of ours, and the first of them is how mails are smuggled.
    """

    sender: str
    recipient: str
    data: bytes

    def __post_init__(self) -> None:
        if not self.sender.isascii():
            raise ValueError("the sender's address is not ASCII")
        wire_address(self.sender)
        ends = self.data.count(b"\r\n")
        if ends != self.data.count(b"\r") or ends != self.data.count(b"\n"):
            raise ValueError("the message has a bare CR or LF")
        if not self.data.endswith(b"\r\n"):
            raise ValueError("the last line of the message has no end")
        if b"\0" in self.data:
            raise ValueError("the message has a NUL")
        if max(map(len, self.data.split(b"\r\n"))) > MAX_LINE:
            raise ValueError(f"the message has a line of more than {MAX_LINE} octets")


def stuff_dots(data: bytes) -> bytes:
    """Double a dot that starts a line, so that none can end the message early (RFC 5321, 4.5.2)."""
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed
