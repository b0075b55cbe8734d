"""Signatures of providers' webhooks, verified before anything of the body is parsed."""

from __future__ import annotations

import base64
import binascii
import hmac
import time
from hashlib import sha256
from typing import Final

from regsvc.errors import RegsvcError

TOLERANCE: Final = 5 * 60.0  # seconds of difference between clocks, for Resend
MAILGUN_LIFE: Final = 15 * 60.0  # seconds for which a Mailgun token may be used


class FeedbackSignatureError(RegsvcError):
    """The signature or credentials of this report are missing or wrong."""

    code = "feedback_signature_invalid"


def check_basic(header: str, expected: str) -> None:
    """Check basic authentication (RFC 7617) in constant time.

    Raises:
        FeedbackSignatureError: it is missing or wrong.
    """
    scheme, _, given = header.partition(" ")
    wanted = base64.b64encode(expected.encode())
    if scheme.lower() != "basic" or not hmac.compare_digest(given.strip().encode(), wanted):
        raise FeedbackSignatureError


def check_bearer(header: str, expected: str) -> None:
    """Check a bearer token (RFC 6750) in constant time.

    Raises:
        FeedbackSignatureError: it is missing or wrong.
    """
    scheme, _, given = header.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), expected.encode()):
        raise FeedbackSignatureError


def check_sendgrid(public_key: str, signature: str, timestamp: str, body: bytes) -> None:
    """Check SendGrid's ECDSA signature over timestamp and body.

    Raises:
        FeedbackSignatureError: it is missing or wrong.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only where SendGrid is used
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415

    key = load_der_public_key(base64.b64decode(public_key))
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise FeedbackSignatureError
    try:
        key.verify(_decode(signature), timestamp.encode() + body, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise FeedbackSignatureError from error


def check_mailgun(key: str, timestamp: str, token: str, signature: str, *, now: float | None = None) -> None:
    """Check Mailgun's HMAC over timestamp and token, at most 15 minutes old. The caller uses up the token.

    Raises:
        FeedbackSignatureError: it is missing, wrong or too old.
    """
    wanted = hmac.new(key.encode(), f"{timestamp}{token}".encode(), sha256).hexdigest()
    if not token or not hmac.compare_digest(wanted.encode(), signature.encode()):
        raise FeedbackSignatureError
    _check_age(timestamp, MAILGUN_LIFE, now)


def check_standard_webhook(
    secret: str, event_id: str, timestamp: str, signatures: str, body: bytes, *, now: float | None = None
) -> None:
    """Check a signature by Standard Webhooks, as Resend sends it: one of several, separated by spaces, is enough.

    Raises:
        FeedbackSignatureError: it is missing, wrong or too old.
    """
    key = base64.b64decode(secret.removeprefix("whsec_") + "==")
    wanted = base64.b64encode(hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, sha256).digest())
    found = False
    for each in signatures.split():
        version, _, given = each.partition(",")
        found |= version == "v1" and hmac.compare_digest(given.encode(), wanted)
    if not found or not event_id:
        raise FeedbackSignatureError
    _check_age(timestamp, TOLERANCE, now)


def _check_age(timestamp: str, most: float, now: float | None) -> None:
    moment = int(timestamp) if timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20 else 0  # noqa: PLR2004
    if abs((time.time() if now is None else now) - moment) > most:
        raise FeedbackSignatureError


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise FeedbackSignatureError from error
