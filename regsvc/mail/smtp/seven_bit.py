"""Re-encodes a message for a server without 8BITMIME (RFC 6152, 3), which hardly any is."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage

# The headers were checked when they were written; folding them again would decode and re-encode them.
_POLICY = policy.SMTP.clone(refold_source="none", cte_type="7bit")


def as_seven_bit(data: bytes) -> bytes:
    """Return the same message with every 8-bit text part as quoted-printable.

    Args:
        data: A message of ours: text parts only, headers in ASCII.
    """
    message = message_from_bytes(data, EmailMessage, policy=_POLICY)
    for part in message.walk():
        if part.get_content_maintype() == "text" and part["Content-Transfer-Encoding"] == "8bit":
            text = part.get_content()
            part.set_content(
                text, subtype=part.get_content_subtype(), charset="utf-8", cte="quoted-printable"
            )
    return message.as_bytes()
