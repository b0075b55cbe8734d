"""A new passkey: the options for a browser, and the verification of its answer.

Attestation is not asked for: it would tell the make of the authenticator, which decides nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict
from uuid import UUID

from regsvc.security.passkeys.client_data import (
    check_authenticator_data,
    check_client_data,
    reading_answer,
)
from regsvc.security.passkeys.encoding import decode_bytes, encode_bytes
from regsvc.security.passkeys.relying_party import RelyingParty

if TYPE_CHECKING:
    from fido2.cose import CoseKey

ES256, EDDSA, RS256 = -7, -8, -257
_ALGORITHMS = {ES256: 2, EDDSA: 1, RS256: 3}  # by identifier, the key type (RFC 9053)
_LONGEST_ID = 1023
_LONGEST_KEY = 1024
_RSA_BYTES = range(256, 513)  # 2048 to 4096 bits
# Of authenticators that browsers know (Web Authentication level 3, 5.8.4); others are not kept.
_TRANSPORTS = ("ble", "hybrid", "internal", "nfc", "smart-card", "usb")


@dataclass(frozen=True)
class Credential:
    """A verified new passkey.

    Args:
        id: chosen by its authenticator.
        public_key: a COSE key in CBOR.
        sign_count: of its authenticator; 0 for those that do not count.
        synced: whether it may be copied to other devices.
        transports: ways to reach its authenticator.
    """

    id: bytes
    public_key: bytes
    sign_count: int
    synced: bool
    transports: Sequence[str]


class Described(TypedDict):
    """A passkey as options name it."""

    type: str
    id: str
    transports: list[str]


def creation_options(
    party: RelyingParty,
    challenge: bytes,
    *,
    user_id: UUID,
    name: str,
    display_name: str,
    exclude: Sequence[Described],
    life: int,
) -> dict[str, object]:
    """Return `PublicKeyCredentialCreationOptionsJSON` for a browser.

    Args:
        party: the site.
        challenge: that the answer is for.
        user_id: of the user; the authenticator keeps it as the user handle.
        name: the email address, by which people tell accounts apart.
        display_name: name of the user.
        exclude: passkeys that the user has.
        life: seconds for which the challenge is valid.
    """
    return {
        "rp": {"id": party.id, "name": party.name},
        "user": {"id": encode_bytes(user_id.bytes), "name": name, "displayName": display_name},
        "challenge": encode_bytes(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in _ALGORITHMS],
        "timeout": life * 1000,
        "excludeCredentials": list(exclude),
        "authenticatorSelection": {
            "residentKey": "required",
            "requireResidentKey": True,
            "userVerification": "required",
        },
        "attestation": "none",
    }


def verify_registration(
    party: RelyingParty,
    challenge: bytes,
    *,
    client_data: str,
    attestation: str,
    transports: Sequence[str] = (),
) -> Credential:
    """Verify a browser's answer to creation options (Web Authentication level 3, 7.1).

    Args:
        party: the site.
        challenge: that was issued, and is used up.
        client_data: `clientDataJSON`, in base64url.
        attestation: `attestationObject`, in base64url.
        transports: as the browser says.

    Raises:
        PasskeyInvalidError: the answer is for something else, or not valid.
    """
    from fido2 import cbor  # noqa: PLC0415 - workers verify none
    from fido2.webauthn import AttestationObject  # noqa: PLC0415

    with reading_answer():
        check_client_data(party, decode_bytes(client_data), ceremony="webauthn.create", challenge=challenge)
        data = AttestationObject(decode_bytes(attestation)).auth_data
        check_authenticator_data(party, data)
        created = data.credential_data
        if created is None or not 0 < len(created.credential_id) <= _LONGEST_ID:
            raise ValueError("no credential")
        public_key = cbor.encode(created.public_key)
        if len(public_key) > _LONGEST_KEY:
            raise ValueError("key too long")
        _check_key(created.public_key)
        return Credential(
            created.credential_id,
            public_key,
            data.counter,
            data.is_backup_eligible(),
            [known for known in _TRANSPORTS if known in transports],
        )


def _check_key(key: CoseKey) -> None:
    """Refuse a public key that could not verify, or is too weak.

    Raises:
        ValueError: of another algorithm, on no curve, of a forbidden size.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above

    algorithm = key.get(3)
    if algorithm not in _ALGORITHMS or key.get(1) != _ALGORITHMS[algorithm]:
        raise ValueError("another algorithm")
    if algorithm == RS256 and len(key[-1].lstrip(b"\0")) not in _RSA_BYTES:
        raise ValueError("a modulus of another size")
    try:
        key.verify(b"", b"\0" * 64)  # reads the key, and cannot succeed
    except InvalidSignature:
        return
    raise ValueError("a key that verifies anything")
