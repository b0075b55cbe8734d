"""Access tokens that nobody was given: each is a good one with one thing changed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class _Value(Enum):
    MISSING = "missing"  # unlike an object's, its name is the same in every process


MISSING: Any = _Value.MISSING
# The order of the group: S + L is another spelling of the same signature (RFC 8032, section 8.4).
_L = 2**252 + 27742317777372353535851937790883648493

Sign = Callable[[bytes], bytes]


def encode(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True)
class Forger:
    """Whoever can sign with the service's own key, which is more than any attacker can.

    Args:
        private: the key that signs.
        header: of a good token.
        claims: of a good token.
    """

    private: Ed25519PrivateKey
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    def forge(self, *, sign: Sign | None = None, body: object = None, **changes: object) -> str:
        """Return a token with some members of header (`h_…`) and claims changed or MISSING.

        Args:
            sign: makes the signature; by default the service's own key does.
            body: stands in place of all claims.
            changes: the members.
        """
        header, claims = dict(self.header), dict(self.claims)
        for name, value in changes.items():
            members = header if name.startswith("h_") else claims
            members[name.removeprefix("h_")] = value
        whole = {k: v for k, v in header.items() if v is not MISSING}
        payload = {k: v for k, v in claims.items() if v is not MISSING} if body is None else body
        return self.seal(json.dumps(whole).encode(), json.dumps(payload).encode(), sign)

    def seal(self, header: bytes, payload: bytes, sign: Sign | None = None) -> str:
        """Return a token of these bytes."""
        signed = f"{encode(header)}.{encode(payload)}"
        return f"{signed}.{encode((sign or self.private.sign)(signed.encode()))}"

    def parts(self) -> list[str]:
        """Return the three segments of a good token."""
        return self.forge().split(".")

    def after(self, seconds: float) -> int:
        """Return the moment so many seconds from now."""
        return int(time.time() + seconds)

    @property
    def public_spellings(self) -> list[bytes]:
        """The public key as somebody might take it for a shared secret."""
        public = self.private.public_key()
        spki = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        raw = public.public_bytes_raw()
        return [raw, spki, spki.strip(), encode(raw).encode(), b""]


def hmac_signer(key: bytes) -> Sign:
    """Return what signs as HS256 does."""
    return lambda data: hmac.new(key, data, hashlib.sha256).digest()


def other_spelling(signature: bytes) -> bytes:
    """Return the signature with the order of the group added to its scalar."""
    scalar = int.from_bytes(signature[32:], "little") + _L
    return signature[:32] + scalar.to_bytes(32, "little")
