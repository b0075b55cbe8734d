"""The input of a transport: two addresses and the octets of one message (RFC 5322)."""

from __future__ import annotations

from dataclasses import dataclass

from regsvc.mail.mailbox import wire_of

MAX_LINE = 998
"""Maximum octets of a line without its CRLF (RFC 5322, 2.1.1)."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message for one recipient.

    Args:
        sender: ASCII address for MAIL FROM, to which bounces go.
        recipient: address for RCPT TO, as the user typed it.
        data: the message with CRLF line ends, not dot-stuffed, ending in a CRLF.
        envid: names the mail in delivery status notifications (RFC 3461, 4.4).

    Raises:
        ValueError: `data` has a bare CR or LF, a NUL, a line over 998 octets or no final CRLF, or the sender is
            invalid. All of these are bugs of ours, and a bare CR or LF would allow SMTP smuggling.
    """

    sender: str
    recipient: str
    data: bytes
    envid: str = ""

    def __post_init__(self) -> None:
        if not self.sender.isascii():
            raise ValueError("the sender's address is not ASCII")
        wire_of(self.sender)
        ends = self.data.count(b"\r\n")
        if ends != self.data.count(b"\r") or ends != self.data.count(b"\n"):
            raise ValueError("the message has a bare CR or LF")
        if not self.data.endswith(b"\r\n"):
            raise ValueError("the message does not end in CRLF")
        if b"\0" in self.data:
            raise ValueError("the message has a NUL")
        if _has_long_line(self.data):
            raise ValueError(f"the message has a line of more than {MAX_LINE} octets")


def _has_long_line(data: bytes) -> bool:
    """Return whether a line is too long: look for the last line end within reach of each, not at every line."""
    at = 0
    while at < len(data):
        end = data.rfind(b"\r\n", at, at + MAX_LINE + 2)
        if end < 0:
            return True
        at = end + 2
    return False


def stuff_dots(data: bytes) -> bytes:
    """Double a dot that starts a line, so that none can end the message early (RFC 5321, 4.5.2)."""
    stuffed = data.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed
