"""A software authenticator with a browser around it, which does as it is told, also wrongly."""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from fido2 import cbor
from fido2.cose import ES256, RS256, CoseKey, EdDSA

from regsvc.security.passkeys.encoding import decode_bytes, encode_bytes

PRESENT, VERIFIED, ELIGIBLE, BACKED_UP, ATTESTED = 0x01, 0x04, 0x08, 0x10, 0x40
USUAL = PRESENT | VERIFIED
SYNCED = USUAL | ELIGIBLE | BACKED_UP

Options = Mapping[str, Any]
Answer = dict[str, Any]


class Signer(Protocol):
    """A private key."""

    def cose(self) -> CoseKey:
        """Return the public key."""

    def sign(self, message: bytes) -> bytes:
        """Sign a message."""


class EcSigner:
    """ES256."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())

    def cose(self) -> CoseKey:
        """Return the public key."""
        return cast("CoseKey", cast("Any", ES256).from_cryptography_key(self._key.public_key()))

    def sign(self, message: bytes) -> bytes:
        """Sign a message."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))


class EdSigner:
    """EdDSA with Ed25519."""

    def __init__(self) -> None:
        self._key = ed25519.Ed25519PrivateKey.generate()

    def cose(self) -> CoseKey:
        """Return the public key."""
        return cast("CoseKey", cast("Any", EdDSA).from_cryptography_key(self._key.public_key()))

    def sign(self, message: bytes) -> bytes:
        """Sign a message."""
        return self._key.sign(message)


class RsaSigner:
    """RS256."""

    def __init__(self, bits: int = 2048) -> None:
        self._key = rsa.generate_private_key(65537, bits)

    def cose(self) -> CoseKey:
        """Return the public key."""
        return cast("CoseKey", cast("Any", RS256).from_cryptography_key(self._key.public_key()))

    def sign(self, message: bytes) -> bytes:
        """Sign a message."""
        return self._key.sign(message, padding.PKCS1v15(), hashes.SHA256())


@dataclass
class Authenticator:
    """Holds one passkey.

    Args:
        origin: of the page that uses it.
        signer: its key.
        flags: that it reports.
        count: its signature counter; None: it counts 0 for ever, as those that sync do.
    """

    origin: str
    signer: Signer = field(default_factory=EcSigner)
    flags: int = SYNCED
    count: int | None = None
    id: bytes = field(default_factory=lambda: secrets.token_bytes(20))
    user_handle: bytes = b""

    def create(self, options: Options, **wrong: Any) -> Answer:
        """Answer creation options; `wrong` replaces parts of the answer."""
        asked = options["publicKey"]
        self.user_handle = decode_bytes(asked["user"]["id"])
        client = self._client("webauthn.create", asked["challenge"], wrong)
        cose = wrong.get("cose", self.signer.cose())
        credential = (
            bytes(16)
            + struct.pack(">H", len(self.id))
            + self.id
            + (cose if isinstance(cose, bytes) else cbor.encode(cose))
        )
        flags = wrong.get("flags", self.flags | ATTESTED)
        data = self._data(asked["rp"]["id"], flags, wrong) + credential
        attestation = wrong.get("attestation") or cbor.encode(
            {"fmt": "none", "attStmt": {}, "authData": data}
        )
        return {
            "id": wrong.get("id", encode_bytes(self.id)),
            "rawId": encode_bytes(self.id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode_bytes(client),
                "attestationObject": encode_bytes(attestation),
                "transports": ["internal", "hybrid"],
            },
        }

    def get(self, options: Options, **wrong: Any) -> Answer:
        """Answer request options; `wrong` replaces parts of the answer."""
        asked = options["publicKey"]
        if self.count is not None:
            self.count += 1
        client = self._client("webauthn.get", asked["challenge"], wrong)
        data = self._data(asked["rpId"], wrong.get("flags", self.flags), wrong)
        signer = wrong.get("signer", self.signer)
        signature = wrong.get("signature") or signer.sign(data + hashlib.sha256(client).digest())
        handle = wrong.get("user_handle", self.user_handle)
        return {
            "id": wrong.get("id", encode_bytes(self.id)),
            "rawId": encode_bytes(self.id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode_bytes(wrong.get("sent_client", client)),
                "authenticatorData": encode_bytes(data),
                "signature": encode_bytes(signature),
                "userHandle": None if handle is None else encode_bytes(handle),
            },
        }

    def _client(self, ceremony: str, challenge: str, wrong: Mapping[str, Any]) -> bytes:
        said = {
            "type": ceremony,
            "challenge": challenge,
            "origin": self.origin,
            "crossOrigin": False,
            **wrong.get("client", {}),
        }
        return json.dumps(said).encode()

    def _data(self, party: str, flags: int, wrong: Mapping[str, Any]) -> bytes:
        hashed = hashlib.sha256(wrong.get("party", party).encode()).digest()
        return hashed + struct.pack(">BI", flags, wrong.get("count", self.count or 0))
