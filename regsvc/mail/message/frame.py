"""The parts shared by all messages of a kind and language: built once by the standard library, filled many times."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from regsvc.mail.message.encoded_words import encode_mailbox, encode_text
from regsvc.mail.message.values import check_header

if TYPE_CHECKING:
    from email.headerregistry import Address

TextEncoding: TypeAlias = Literal["7bit", "quoted-printable", "base64"]

OUR_HEADER: Final = "X-Regsvc-Mail"
"""Header with our id, which providers and bounces hand back."""
_TEXT: Final = "REGSVC-TEXT-PART"
_HTML: Final = "REGSVC-HTML-PART"
LONGEST: Final = 998  # octets of a line (RFC 5322, 2.1.1)
_ROOM: Final = 900
_ASCII: Final = bytes(range(128))


@dataclass(frozen=True, slots=True)
class Frame:
    """A two-part message with placeholders for the variable headers, the text and the HTML.

    Its boundary is the same in every message and so not secret. It contains a "=", which values that a stranger can
    influence cannot (`regsvc.mail.message.values.clean`), so no part can end early.
    """

    _before_text: bytes
    _before_html: bytes
    _after: bytes
    _encoding: TextEncoding

    @classmethod
    def build(cls, *, sender: Address, subject: str, encoding: TextEncoding) -> Self:
        """Build the structure with the standard library (RFC 2046) and encode the headers with `encoded_words`.

        Args:
            sender: For From.
            subject: For Subject.
            encoding: Of the text (RFC 2045, 6). All use 7 bits, so that no relay rewrites signed content. The
                HTML is always ASCII, with entities.

        Raises:
            ValueError: A value could inject a header.
        """
        message = EmailMessage(policy=policy.SMTP)
        own = (
            f"From: {encode_mailbox(check_header(sender.display_name), sender.addr_spec)}\r\n"
            f"Subject: {encode_text(check_header(subject))}\r\n"
        )
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834, 5
        # Exchange replies automatically unless told not to; "All" would suppress bounces, too.
        message["X-Auto-Response-Suppress"] = "OOF, AutoReply"
        message.set_content(f"{_TEXT}\n", charset="utf-8", cte="7bit")
        message.add_alternative(f"{_HTML}\n", subtype="html", charset="utf-8", cte="7bit")
        message.set_boundary(f"=_regsvc_{sha256(own.encode()).hexdigest()[:24]}")  # the same in every process
        for part in message.iter_parts():
            del part["MIME-Version"]  # meaningless in a part (RFC 2045, 4)
        text_part, _ = message.iter_parts()
        text_part.replace_header("Content-Transfer-Encoding", encoding)
        before_text, _, rest = message.as_bytes().partition(f"{_TEXT}\r\n".encode())
        before_html, _, after = rest.partition(f"{_HTML}\r\n".encode())
        return cls(own.encode("ascii") + before_text, before_html, after, encoding)

    def fill(self, *, headers: str, text: str, html: bytes) -> bytes:
        """Return the whole message.

        Args:
            headers: Lines ending in LF, with checked values.
            text: Lines ending in LF.
            html: As `encode_html` returns it.
        """
        return b"".join(
            (
                headers.replace("\n", "\r\n").encode(),
                self._before_text,
                encode_body(text, self._encoding),
                self._before_html,
                html,
                self._after,
            )
        )


def choose_encoding(text: str) -> TextEncoding:
    """Return the shortest 7-bit encoding of a text: 7bit, quoted-printable or base64."""
    if text.isascii():
        return "7bit"
    octets = text.encode()
    wide = len(octets.translate(None, _ASCII))  # such an octet becomes three, as "=C3"
    return "quoted-printable" if wide * 6 < len(octets) else "base64"


def encode_body(text: str, encoding: TextEncoding) -> bytes:
    """Encode a text with LF line ends as the octets of a part (RFC 2045, 6.7 and 6.8)."""
    match encoding:
        case "7bit":
            encoded = text.encode("ascii").replace(b"\n", b"\r\n")
        case "quoted-printable":
            encoded = binascii.b2a_qp(text.encode(), istext=True).replace(b"\n", b"\r\n")
        case "base64":
            encoded = base64.encodebytes(text.replace("\n", "\r\n").encode()).replace(b"\n", b"\r\n")
    return encoded


def encode_html(html: str) -> bytes:
    """Encode HTML with LF line ends as the octets of a part: ASCII with entities, in lines of legal length."""
    return b"\r\n".join(fold(line) for line in html.encode("ascii", "xmlcharrefreplace").split(b"\n"))


def fold(line: bytes) -> bytes:
    """Split a line of HTML into lines of legal length with the same meaning.

    A Chinese or Japanese sentence has no spaces to break at, and eight octets per character. So the break is put into a
    `<wbr>` tag after a character outside any tag.
    """
    folded = []
    while len(line) > LONGEST:
        at = line.rfind(b";", 0, _ROOM) + 1
        while at and line.rfind(b"<", 0, at) > line.rfind(b">", 0, at):
            at = line.rfind(b";", 0, at - 1) + 1
        if not at:
            break
        folded.append(line[:at] + b"<wbr\r\n>")
        line = line[at:]
    return b"".join([*folded, line])
