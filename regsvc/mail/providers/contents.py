"""The fields of a message, for APIs that take no message of RFC 5322."""

from __future__ import annotations

from dataclasses import dataclass
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Final, Self

from regsvc.mail.message.frame import OUR_HEADER

if TYPE_CHECKING:
    from regsvc.mail.envelope import Envelope

OUR_TAG: Final = "regsvc_mail"
"""Name of the tag, argument or metadata with our id, which providers hand back in reports."""
_KEPT: Final = ("Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress")


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a message.

    Args:
        mail_id: our id, from its Message-ID.
        sender: header From, with the display name in Unicode.
        sender_address: the bare address of it.
        sender_name: the display name of it.
        recipient: address of the recipient.
        subject: in Unicode.
        text: text part.
        html: HTML part.
        headers: other headers to keep.
    """

    mail_id: str
    sender: str
    sender_address: str
    sender_name: str
    recipient: str
    subject: str
    text: str
    html: str
    headers: dict[str, str]

    @classmethod
    def read(cls, envelope: Envelope) -> Self:
        """Read them from a message of ours."""
        message = message_from_bytes(envelope.data, policy=policy.SMTP)
        mail_id = str(message["Message-ID"] or "").strip("<>").partition("@")[0]
        addresses = message["From"].addresses if message["From"] is not None else ()
        name = addresses[0].display_name if addresses else ""
        address = addresses[0].addr_spec if addresses else envelope.sender
        parts = {kind: message.get_body((kind,)) for kind in ("plain", "html")}
        text, html = (
            "" if part is None else str(part.get_content()).replace("\r\n", "\n") for part in parts.values()
        )
        kept = {header: str(message[header]) for header in _KEPT if message[header] is not None}
        return cls(
            mail_id=mail_id,
            sender=f'"{name.replace(chr(34), "")}" <{address}>' if name else address,
            sender_address=address,
            sender_name=name,
            recipient=envelope.recipient,
            subject=str(message["Subject"] or ""),
            text=text,
            html=html,
            headers={**kept, OUR_HEADER: mail_id},
        )
