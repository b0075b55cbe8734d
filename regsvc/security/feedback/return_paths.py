"""Envelope senders of our own mails: variable return paths (VERP) with a MAC, so that forged bounces are noise.

`bounce+<mail><mac>@domain`: 26 characters of the mail's id and 8 of a 40-bit MAC, in lower-case base32 (RFC 4648, 6).
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from regsvc.security.tokens import Secrets

_LABEL = "return-path"
_ID_CHARACTERS = 26
_MAC_CHARACTERS = 8
_MAC_BYTES = 5
_TAG = re.compile(rf"[a-z2-7]{{{_ID_CHARACTERS + _MAC_CHARACTERS}}}", re.IGNORECASE)


def mint_return_path(secrets: Secrets, address: str, mail_id: UUID) -> str:
    """Return the envelope sender of a mail.

    Args:
        secrets: the MAC's key is derived from the current one.
        address: the configured return path.
        mail_id: id of the mail.
    """
    local, _, domain = address.rpartition("@")
    return f"{local}+{_encode(mail_id.bytes)}{_encode(_mac(secrets.key(_LABEL), mail_id))}@{domain}"


@dataclass(frozen=True)
class ReturnPath:
    """What an address says that has the form of our envelope senders.

    Args:
        mail_id: the mail, if the MAC is right; None if it is wrong.
    """

    mail_id: UUID | None


def read_return_path(secrets: Secrets, address: str, text: str) -> ReturnPath | None:
    """Return what a recipient of a bounce says; None if it has another form than our envelope senders.

    Mail servers may change the case of a local part, which base32 survives.
    """
    local, _, domain = address.lower().rpartition("@")
    given, _, given_domain = text.strip().strip("<>").rpartition("@")
    base, plus, tag = given.rpartition("+")
    if not plus or given_domain.lower() != domain or base.lower() != local or not _TAG.fullmatch(tag):
        return None
    raw = base64.b32decode(tag[:_ID_CHARACTERS].upper() + "======")
    mail_id = UUID(bytes=raw)
    mac = base64.b32decode(tag[_ID_CHARACTERS:].upper())
    canonical = _encode(raw) == tag[:_ID_CHARACTERS].lower()
    proved = [hmac.compare_digest(_mac(key, mail_id), mac) for key in secrets.keys(_LABEL)]
    return ReturnPath(mail_id if canonical and any(proved) else None)


def _mac(key: bytes, mail_id: UUID) -> bytes:
    return hmac.new(key, mail_id.bytes, sha256).digest()[:_MAC_BYTES]


def _encode(raw: bytes) -> str:
    return base64.b32encode(raw).rstrip(b"=").decode("ascii").lower()
