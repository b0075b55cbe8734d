"""What all mails of one kind and language share: made once by the standard library, filled many times."""

from __future__ import annotations

from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from typing import TYPE_CHECKING, Final, Self

from regsvc.mail.message.values import check_header

if TYPE_CHECKING:
    from email.headerregistry import Address

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

    @classmethod
    def build(cls, *, sender: Address, subject: str, eight_bit: bool) -> Self:
        """Let the standard library encode the headers and the structure (RFC 2046, 2047).

        Args:
            sender: For From.
            subject: For Subject.
            eight_bit: Whether the text will hold other than ASCII. The HTML never does: it has entities.

        Raises:
            ValueError: A header could be more than one.
        """
        message = EmailMessage(policy=policy.SMTP)
        check_header(sender.display_name)
        message["From"] = sender
        message["Subject"] = check_header(subject)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834, 5
        # Exchange answers all the same unless told so; "All" would suppress bounces with the rest.
        message["X-Auto-Response-Suppress"] = "OOF, AutoReply"
        message.set_content(f"{_TEXT}\n", charset="utf-8", cte="8bit" if eight_bit else "7bit")
        message.add_alternative(f"{_HTML}\n", subtype="html", charset="utf-8", cte="7bit")
        for part in message.iter_parts():
            del part["MIME-Version"]  # means nothing there (RFC 2045, 4)
        before_text, _, rest = message.as_bytes().partition(f"{_TEXT}\r\n".encode())
        before_html, _, after = rest.partition(f"{_HTML}\r\n".encode())
        return cls(before_text, before_html, after)

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
                text.replace("\n", "\r\n").encode(),
                self._before_html,
                b"\r\n".join(fold(line) for line in html.encode("ascii", "xmlcharrefreplace").split(b"\n")),
                self._after,
            )
        )


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
