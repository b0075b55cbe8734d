"""Amazon SNS messages: what their signature covers, and where the certificate may come from.

https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from regsvc.security.feedback.signatures import FeedbackSignatureError

_HOST: Final = re.compile(r"sns\.[a-z0-9-]{3,30}\.amazonaws\.com(\.cn)?")
_PEM: Final = re.compile(r"/SimpleNotificationService-[0-9A-Za-z]{1,100}\.pem")
_SIGNED: Final[dict[str, tuple[str, ...]]] = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type",
    ),
}  # fmt: skip


def check_certificate_url(url: str) -> None:
    """Check that a signing certificate comes from SNS itself.

    Raises:
        FeedbackSignatureError: it does not.
    """
    if not _is_sns(url) or not _PEM.fullmatch(urlsplit(url).path):
        raise FeedbackSignatureError


def check_subscribe_url(url: str) -> None:
    """Check that a subscription is confirmed at SNS itself.

    Raises:
        FeedbackSignatureError: it is not.
    """
    if not _is_sns(url):
        raise FeedbackSignatureError


def _is_sns(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme == "https"
            and parts.netloc == parts.hostname
            and _HOST.fullmatch(parts.netloc) is not None
            and not parts.fragment
        )
    except ValueError:
        return False


def check_signature(fields: Mapping[str, object], certificate: bytes) -> None:
    """Check a message's signature, version 2 (RSA with SHA-256).

    Args:
        fields: of the message.
        certificate: PEM, from a checked URL.

    Raises:
        FeedbackSignatureError: it is wrong, or has another version.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - only where SES is used
    from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.x509 import load_pem_x509_certificate  # noqa: PLC0415

    names = _SIGNED.get(str(fields.get("Type")))
    if names is None or str(fields.get("SignatureVersion")) != "2":
        raise FeedbackSignatureError
    signed = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
    try:
        key = load_pem_x509_certificate(certificate).public_key()
        signature = base64.b64decode(str(fields.get("Signature")), validate=True)
        if not isinstance(key, rsa.RSAPublicKey):
            raise FeedbackSignatureError
        key.verify(signature, signed.encode(), padding.PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError, binascii.Error) as error:
        raise FeedbackSignatureError from error
