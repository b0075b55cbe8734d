"""What all mails of one kind and language share: made once by the standard library, filled many times."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from regsvc.mail.message.encoded_words import encode_mailbox, encode_text
from regsvc.mail.message.values import check_header

if TYPE_CHECKING:
    from email.headerregistry import Address

TextEncoding: TypeAlias = Literal["7bit", "quoted-printable", "base64"]

_TEXT: Final = "REGSVC-TEXT-PART"
_HTML: Final = "REGSVC-HTML-PART"
_LONGEST: Final = 998  # octets of a line (RFC 5322, 2.1.1)
_ROOM: Final = 900


@dataclass(frozen=True, slots=True)
class Frame:
    """A two-part message with holes for the headers that differ, the text and the HTML.

    Its boundary is the same in every mail and so no secret. It has a "=" in it, which no value that a stranger
    has a hand in may hold (`regsvc.mail.values.clean`), so no part can end early.
    """

    _before_text: bytes
    _before_html: bytes
    _after: bytes
    _encoding: TextEncoding

    @classmethod
    def build(cls, *, sender: Address, subject: str, encoding: TextEncoding) -> Self:
        """Let the standard library make the structure (RFC 2046); the headers are encoded by `encoded_words`.

        Args:
            sender: For From.
            subject: For Subject.
            encoding: Of the text (RFC 2045, 6). All are of 7 bits, so that no relay has to rewrite what is signed. The
                HTML is always ASCII: it has entities.

        Raises:
            ValueError: A header could be more than one.
        """
        message = EmailMessage(policy=policy.SMTP)
        own = (
            f"From: {encode_mailbox(check_header(sender.display_name), sender.addr_spec)}\r\n"
            f"Subject: {encode_text(check_header(subject))}\r\n"
        )
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834, 5
        # Exchange answers all the same unless told so; "All" would suppress bounces with the rest.
        message["X-Auto-Response-Suppress"] = "OOF, AutoReply"
        message.set_content(f"{_TEXT}\n", charset="utf-8", cte="7bit")
        message.add_alternative(f"{_HTML}\n", subtype="html", charset="utf-8", cte="7bit")
        for part in message.iter_parts():
            del part["MIME-Version"]  # means nothing there (RFC 2045, 4)
        text_part, _ = message.iter_parts()
        text_part.replace_header("Content-Transfer-Encoding", encoding)
        before_text, _, rest = message.as_bytes().partition(f"{_TEXT}\r\n".encode())
        before_html, _, after = rest.partition(f"{_HTML}\r\n".encode())
        return cls(own.encode("ascii") + before_text, before_html, after, encoding)

    def fill(self, *, headers: str, text: str, html: str) -> bytes:
        """Return a whole message.

        Args:
            headers: Lines ended by LF, each value checked.
            text: Lines ended by LF.
            html: Lines ended by LF.
        """
        return b"".join(
            (
                headers.replace("\n", "\r\n").encode(),
                self._before_text,
                encode_body(text, self._encoding),
                self._before_html,
                b"\r\n".join(fold(line) for line in html.encode("ascii", "xmlcharrefreplace").split(b"\n")),
                self._after,
            )
        )


def choose_encoding(text: str) -> TextEncoding:
    """Return what makes the least of a text in 7 bits: as it is, or octet by octet, or as a whole."""
    if text.isascii():
        return "7bit"
    octets = text.encode()
    wide = sum(octet > 0x7F for octet in octets)  # noqa: PLR2004 - beyond ASCII; such an octet takes three as "=C3"
    return "quoted-printable" if wide * 6 < len(octets) else "base64"


def encode_body(text: str, encoding: TextEncoding) -> bytes:
    """Return a text with lines ended by LF as the octets of a part (RFC 2045, 6.7 and 6.8)."""
    match encoding:
        case "7bit":
            encoded = text.encode("ascii").replace(b"\n", b"\r\n")
        case "quoted-printable":
            encoded = binascii.b2a_qp(text.encode(), istext=True).replace(b"\n", b"\r\n")
        case "base64":
            encoded = base64.encodebytes(text.replace("\n", "\r\n").encode()).replace(b"\n", b"\r\n")
    return encoded


def fold(line: bytes) -> bytes:
    """Return a line of HTML as several that a mail may have, which say the same.

    A sentence in Chinese or Japanese has no spaces to break at, and eight octets a character. So the break is put into
    a tag that says where a word may be broken, after a character that is outside of any tag.
    """
    folded = []
    while len(line) > _LONGEST:
        at = line.rfind(b";", 0, _ROOM) + 1
        while at and line.rfind(b"<", 0, at) > line.rfind(b">", 0, at):
            at = line.rfind(b";", 0, at - 1) + 1
        if not at:
            break
        folded.append(line[:at] + b"<wbr\r\n>")
        line = line[at:]
    return b"".join([*folded, line])
