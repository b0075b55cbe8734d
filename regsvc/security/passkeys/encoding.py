"""Base64url without padding (RFC 4648 section 5), in which browsers write the bytes of passkeys as JSON."""

from __future__ import annotations

import base64
import binascii


def encode_bytes(raw: bytes) -> str:
    """Return the text of bytes."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decode_bytes(text: str) -> bytes:
    """Return the bytes of a text, which has one spelling only.

    Raises:
        ValueError: the text is not base64url, padded, or spelled in another way.
    """
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
    if encode_bytes(raw) != text:
        raise ValueError("not canonical base64url")
    return raw
