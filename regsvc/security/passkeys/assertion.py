"""Use of a passkey: the options for a browser, and the verification of its answer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from regsvc.security.passkeys.client_data import (
    PasskeyInvalidError,
    check_authenticator_data,
    check_client_data,
    reading_answer,
)
from regsvc.security.passkeys.encoding import decode_bytes, encode_bytes
from regsvc.security.passkeys.registration import Described
from regsvc.security.passkeys.relying_party import RelyingParty


@dataclass(frozen=True)
class Proof:
    """A verified assertion.

    Args:
        sign_count: of the authenticator after this use.
        synced: whether the passkey may be copied to other devices.
    """

    sign_count: int
    synced: bool


def request_options(
    party: RelyingParty, challenge: bytes, *, allow: Sequence[Described], life: int
) -> dict[str, object]:
    """Return `PublicKeyCredentialRequestOptionsJSON` for a browser.

    Args:
        party: the site.
        challenge: that the answer is for.
        allow: passkeys that may answer; none: any of this site, which autofill needs.
        life: seconds for which the challenge is valid.
    """
    return {
        "rpId": party.id,
        "challenge": encode_bytes(challenge),
        "timeout": life * 1000,
        "allowCredentials": list(allow),
        "userVerification": "required",
    }


def verify_assertion(
    party: RelyingParty,
    challenge: bytes,
    *,
    public_key: bytes,
    user_id: UUID,
    client_data: str,
    authenticator_data: str,
    signature: str,
    user_handle: str | None,
    needs_handle: bool,
) -> Proof:
    """Verify a browser's answer to request options (Web Authentication level 3, 7.2).

    Args:
        party: the site.
        challenge: that was issued, and is used up.
        public_key: of the passkey that answers, as stored.
        user_id: its user.
        client_data: `clientDataJSON`, in base64url.
        authenticator_data: `authenticatorData`, in base64url.
        signature: over both, in base64url.
        user_handle: `userHandle`, in base64url.
        needs_handle: the options named no passkey, so the authenticator has to say whose this one is.

    Raises:
        PasskeyInvalidError: the answer is for something else, or not valid.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - workers verify none
    from fido2 import cbor  # noqa: PLC0415
    from fido2.cose import CoseKey  # noqa: PLC0415
    from fido2.webauthn import AuthenticatorData  # noqa: PLC0415

    with reading_answer():
        raw = decode_bytes(client_data)
        check_client_data(party, raw, ceremony="webauthn.get", challenge=challenge)
        data = AuthenticatorData(decode_bytes(authenticator_data))
        check_authenticator_data(party, data)
        handle = None if user_handle is None else decode_bytes(user_handle)
        if handle != user_id.bytes and (needs_handle or handle):
            raise ValueError("another user")
        key = cbor.decode(public_key)
        if not isinstance(key, dict):
            raise TypeError("not a key")
        try:
            CoseKey.parse(key).verify(bytes(data) + hashlib.sha256(raw).digest(), decode_bytes(signature))
        except InvalidSignature as error:
            raise PasskeyInvalidError from error
        return Proof(data.counter, data.is_backup_eligible())
