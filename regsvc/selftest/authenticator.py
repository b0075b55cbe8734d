"""A passkey in software, for calls that take one."""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
from typing import Any, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES256

from regsvc.security.passkeys.encoding import decode_bytes, encode_bytes

_PRESENT, _VERIFIED, _ATTESTED = 0x01, 0x04, 0x40


class Authenticator:
    """An authenticator with one passkey, and the browser around it.

    Args:
        origin: of the site that asks.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._id = secrets.token_bytes(20)
        self._user = b""

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to creation options (Web Authentication level 3, `toJSON()`)."""
        asked = options["publicKey"]
        self._user = decode_bytes(asked["user"]["id"])
        cose = cast("Any", ES256).from_cryptography_key(self._key.public_key())
        credential = bytes(16) + struct.pack(">H", len(self._id)) + self._id + cbor.encode(cose)
        data = self._write_data(asked["rp"]["id"], _PRESENT | _VERIFIED | _ATTESTED) + credential
        attestation = cbor.encode({"fmt": "none", "attStmt": {}, "authData": data})
        client = self._write_client("webauthn.create", asked["challenge"])
        return self._answer(client, {"attestationObject": encode_bytes(attestation)})

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to request options."""
        asked = options["publicKey"]
        client = self._write_client("webauthn.get", asked["challenge"])
        data = self._write_data(asked["rpId"], _PRESENT | _VERIFIED)
        signature = self._key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        answered = {
            "authenticatorData": encode_bytes(data),
            "signature": encode_bytes(signature),
            "userHandle": encode_bytes(self._user),
        }
        return self._answer(client, answered)

    def _answer(self, client: bytes, response: dict[str, str]) -> dict[str, Any]:
        answered = {"clientDataJSON": encode_bytes(client), **response}
        return {"id": encode_bytes(self._id), "type": "public-key", "response": answered}

    def _write_client(self, ceremony: str, challenge: str) -> bytes:
        return json.dumps({"type": ceremony, "challenge": challenge, "origin": self._origin}).encode()

    @staticmethod
    def _write_data(party: str, flags: int) -> bytes:
        return hashlib.sha256(party.encode()).digest() + struct.pack(">BI", flags, 0)
