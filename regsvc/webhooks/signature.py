"""Signatures of the Standard Webhooks specification: `whsec_` secrets, HMAC-SHA256, several signatures at once."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
_SECRET_BYTES = 32
_SHORTEST, _LONGEST = 24, 64  # bytes, as the specification says


def mint_secret() -> str:
    """Return a new secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode("ascii")


def read_secret(text: str) -> bytes:
    """Return the key in a secret.

    Raises:
        ValueError: it is not `whsec_` with 24 to 64 bytes of base64 behind it.
    """
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise ValueError(f"has to be {PREFIX} and {_SHORTEST} to {_LONGEST} bytes in base64")
    return key


def sign(keys: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a signed request.

    Args:
        keys: secrets, the newest first; a receiver takes the signature of the one that it knows.
        message_id: the same in every attempt, so that a receiver recognises what it had before.
        timestamp: of this attempt, in seconds since 1970.
        body: the bytes that are sent.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.digest(read_secret(key), signed, "sha256")).decode("ascii")
        for key in keys
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
