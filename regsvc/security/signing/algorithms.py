"""The algorithms that sign access tokens: EdDSA with Ed25519 (RFC 8037), and ES256 (RFC 7518 section 3.4).

ES256 is for verifiers that lack EdDSA. Both signatures have 64 bytes, so tokens of both have the same shape.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import AllowedPrivateKeys

_HALF = 32  # bytes of each half of a signature, of a coordinate and of a private key


class PublicKey(Protocol):
    """The half of a key that verifies."""

    @property
    def algorithm(self) -> str:
        """The `alg` of its tokens."""

    @property
    def raw(self) -> bytes:
        """The key as it is stored."""

    def verify(self, signature: bytes, signed: bytes) -> None:
        """Check a signature of 64 bytes.

        Raises:
            InvalidSignature: this key did not make it.
        """

    def as_jwk(self) -> dict[str, str]:
        """Return the members of a JWK (RFC 7517) that are particular to this kind of key."""


class PrivateKey(Protocol):
    """The half of a key that signs."""

    @property
    def raw(self) -> bytes:
        """The key as it is sealed."""

    @property
    def key(self) -> AllowedPrivateKeys:
        """The key as PyJWT signs with it."""

    @property
    def public(self) -> PublicKey:
        """The other half."""


@dataclass(frozen=True, repr=False)
class _Ed25519Public:
    key: Ed25519PublicKey
    algorithm = "EdDSA"

    @property
    def raw(self) -> bytes:
        return self.key.public_bytes_raw()

    def verify(self, signature: bytes, signed: bytes) -> None:
        self.key.verify(signature, signed)

    def as_jwk(self) -> dict[str, str]:
        return {"kty": "OKP", "crv": "Ed25519", "x": _encode(self.raw)}


@dataclass(frozen=True, repr=False)
class _Ed25519Private:
    key: Ed25519PrivateKey

    @property
    def raw(self) -> bytes:
        return self.key.private_bytes_raw()

    @property
    def public(self) -> PublicKey:
        return _Ed25519Public(self.key.public_key())


@dataclass(frozen=True, repr=False)
class _P256Public:
    key: EllipticCurvePublicKey
    algorithm = "ES256"

    @property
    def raw(self) -> bytes:
        return self.key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def verify(self, signature: bytes, signed: bytes) -> None:
        r, s = int.from_bytes(signature[:_HALF], "big"), int.from_bytes(signature[_HALF:], "big")
        self.key.verify(encode_dss_signature(r, s), signed, ECDSA(SHA256()))

    def as_jwk(self) -> dict[str, str]:
        point = self.raw
        return {
            "kty": "EC",
            "crv": "P-256",
            "x": _encode(point[1 : 1 + _HALF]),
            "y": _encode(point[1 + _HALF :]),
        }


@dataclass(frozen=True, repr=False)
class _P256Private:
    key: EllipticCurvePrivateKey

    @property
    def raw(self) -> bytes:
        return self.key.private_numbers().private_value.to_bytes(_HALF, "big")

    @property
    def public(self) -> PublicKey:
        return _P256Public(self.key.public_key())


@dataclass(frozen=True)
class Algorithm:
    """How keys of one kind are made and read."""

    generate: Callable[[], PrivateKey]
    load_private: Callable[[bytes], PrivateKey]
    load_public: Callable[[bytes], PublicKey]


ALGORITHMS: Mapping[str, Algorithm] = {
    "EdDSA": Algorithm(
        lambda: _Ed25519Private(Ed25519PrivateKey.generate()),
        lambda raw: _Ed25519Private(Ed25519PrivateKey.from_private_bytes(raw)),
        lambda raw: _Ed25519Public(Ed25519PublicKey.from_public_bytes(raw)),
    ),
    "ES256": Algorithm(
        lambda: _P256Private(generate_private_key(SECP256R1())),
        lambda raw: _P256Private(derive_private_key(int.from_bytes(raw, "big"), SECP256R1())),
        lambda raw: _P256Public(EllipticCurvePublicKey.from_encoded_point(SECP256R1(), raw)),
    ),
}


def _encode(data: bytes) -> str:
    """Return bytes as base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
