"""The SMTP dialogue: build commands and parse replies, without any I/O.

RFC 5321 (SMTP), 1870 (SIZE), 2034 (enhanced codes), 2920 (pipelining), 4954 (AUTH), 6152 (8BITMIME), 6531
(SMTPUTF8).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from regsvc.mail.envelope import Envelope, stuff_dots
from regsvc.mail.mailbox import UnusableAddressError, wire_of
from regsvc.mail.outcome import Bounced, Failure, Refused, Stage
from regsvc.mail.smtp.replies import classify

MAX_REPLY_LINE: Final = 2048
"""Octets. RFC 5321, 4.5.3.1.5, requires 512; some servers send longer lines, none needs more than this."""
MAX_REPLY_LINES: Final = 100
GO_AHEAD: Final = 354
"""The server waits for content."""
CLOSING: Final = 421
"""The server closes the session after this reply to any command (RFC 5321, 3.8)."""
_POSITIVE: Final = 2  # first digit of a reply that reports success
_SHOWN: Final = 500  # characters of a reply that are kept for display

_LINE: Final = re.compile(rb"([2-5][0-9]{2})(?:([ -])([^\n]*?))?\r?\n")
_ENHANCED: Final = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}(?![0-9.])")
_PROVIDER_ID: Final = re.compile(
    r"250 (?:2\.\d\.\d )?ok:? (?:queued as )?<?([A-Za-z0-9._-]{18,200})>?", re.IGNORECASE
)
_UNPRINTABLE: Final = re.compile(rb"[^\x20-\x7e]")

Extensions: TypeAlias = Mapping[str, str]
"""What EHLO offered: upper-case keyword to its parameters."""
Command: TypeAlias = tuple[Stage, bytes]


class GarbledReplyError(Exception):
    """The server sent something that is not an SMTP reply."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply: its code, and the text of each line in printable ASCII."""

    code: int
    lines: tuple[str, ...]

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 2034), such as "5.1.1", or None."""
        match = _ENHANCED.match(self.lines[0])
        return match[0] if match else None

    def __str__(self) -> str:
        return f"{self.code} {' '.join(self.lines)}"[:_SHOWN].rstrip()


class ReplyReader:
    """Parses received octets into replies, within bounds.

    Text that is not printable ASCII is shown as "?" rather than treated as an error: RFC 6531, 3.7.4.2, allows UTF-8,
    other servers send Latin-1, and mistaking an odd "250" for a failure would mail the user twice. For the same
    reason a bare LF ends a line.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[str] = []
        self._code = b""

    @property
    def pending(self) -> bool:
        """Whether octets have arrived that do not form a reply yet."""
        return bool(self._buffer or self._lines)

    def feed(self, octets: bytes | bytearray) -> None:
        """Add received octets."""
        self._buffer += octets

    def next_reply(self) -> Reply | None:
        """Return the next whole reply, or None if it is not complete yet.

        Raises:
            GarbledReplyError: a line has no code, a line or reply is too long, or the code changes within one
                reply.
        """
        while match := _LINE.match(self._buffer):
            code, separator, text = match.groups(b"")
            if match.end() > MAX_REPLY_LINE or len(self._lines) == MAX_REPLY_LINES:
                raise GarbledReplyError("a reply is too long")
            if self._lines and code != self._code:
                raise GarbledReplyError("a reply changes its code")
            self._buffer = self._buffer[match.end() :]
            self._code = code
            self._lines.append(_UNPRINTABLE.sub(b"?", text).decode("ascii"))
            if separator != b"-":
                lines, self._lines = tuple(self._lines), []
                return Reply(int(code), lines)
        if b"\n" in self._buffer:
            raise GarbledReplyError("a line is not an SMTP reply")
        if len(self._buffer) > MAX_REPLY_LINE:
            raise GarbledReplyError("a reply is too long")
        return None


def judge(stage: Stage, reply: Reply) -> Failure | None:
    """Return what a negative reply means for the mail, or None if it is positive."""
    hoped_for = reply.code == GO_AHEAD if stage == "data" else reply.code // 100 == _POSITIVE
    if hoped_for:
        return None
    verdict, reason = classify(stage, reply.code, reply.enhanced, " ".join(reply.lines))
    return verdict(reason, stage, str(reply))


def read_extensions(reply: Reply) -> Extensions:
    """Return the extensions in a reply to EHLO (RFC 5321, 4.1.1.1), whose first line is the server's name."""
    offers: dict[str, str] = {}
    for line in reply.lines[1:]:
        # Servers from before RFC 2554 send "AUTH=LOGIN PLAIN", some current ones both that and the line of RFC 4954.
        words = re.sub(r"(?i)^AUTH=", "AUTH ", line).split()
        keyword = words[0].upper() if words else ""
        known = offers.get(keyword, "").split()
        offers[keyword] = " ".join([*known, *(word for word in words[1:] if word not in known)])
    return offers


@dataclass(frozen=True, slots=True)
class Transaction:
    """The dialogue for one mail: the commands up to DATA, and the dot-stuffed content without its final dot."""

    commands: tuple[Command, ...]
    content: bytes


def plan(envelope: Envelope, extensions: Extensions) -> Transaction | Failure:
    """Return the transaction for a mail and a server's extensions, or why the server can never accept the mail.

    The content is 7-bit, except for the header To of a recipient whose local part is not ASCII. Without SMTPUTF8
    such a recipient cannot be reached, since there is no other spelling (RFC 6531, 3.2).

    Raises:
        ValueError: other content is 8-bit, and the server does not support that: a bug of ours.
    """
    try:
        recipient = wire_of(envelope.recipient)
    except UnusableAddressError:
        return Bounced("recipient_invalid", "rcpt")
    data, parameters = envelope.data, ""
    if not recipient.isascii():
        if "SMTPUTF8" not in extensions:
            return Bounced("smtputf8_not_supported", "rcpt")
        parameters += " SMTPUTF8 BODY=8BITMIME"  # offered together (RFC 6531, 3.1)
    elif not data.isascii():
        if "8BITMIME" not in extensions:
            raise ValueError("a message to an ASCII address is not 7-bit")
        parameters += " BODY=8BITMIME"
    notify = ""
    if "DSN" in extensions:  # RFC 3461, 4; the header is enough to recognise the mail
        parameters += f" RET=HDRS ENVID={envelope.envid}" if envelope.envid else " RET=HDRS"
        notify = " NOTIFY=FAILURE,DELAY"
    begin = begin_mail(envelope.sender, len(data), extensions, parameters)
    if not isinstance(begin, bytes):
        return begin
    return Transaction(
        (
            ("mail", begin),
            ("rcpt", f"RCPT TO:<{recipient}>{notify}\r\n".encode()),
            ("data", b"DATA\r\n"),
        ),
        stuff_dots(data),
    )


def begin_mail(sender: str, size: int, extensions: Extensions, parameters: str = "") -> bytes | Failure:
    """Return the MAIL command for a mail of so many octets, or why the server never accepts that size.

    A server may announce a limit (RFC 1870, 5); 0 means none.
    """
    if "SIZE" in extensions:
        limit = extensions["SIZE"]
        if limit.isdecimal() and 0 < int(limit) < size:
            return Refused(
                "message_too_large", "mail", f"the server announced a limit of {limit[:20]} octets"
            )
        parameters += f" SIZE={size}"
    return f"MAIL FROM:<{wire_of(sender)}>{parameters}\r\n".encode()


def find_provider_id(reply: str) -> str | None:
    """Return the id by which a provider reports a mail, from its reply to the dot.

    Amazon SES, Postmark and SendGrid end that reply with it. Queue ids of ordinary servers are shorter.
    """
    found = _PROVIDER_ID.fullmatch(reply)
    return found[1] if found else None
