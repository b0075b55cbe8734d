"""What both ceremonies check first: the client's data, and the authenticator's data."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from regsvc.errors import RegsvcError
from regsvc.security.passkeys.encoding import decode_bytes

if TYPE_CHECKING:
    from fido2.webauthn import AuthenticatorData

    from regsvc.security.passkeys.relying_party import RelyingParty

Ceremony = Literal["webauthn.create", "webauthn.get"]

# What parsers of JSON, CBOR and keys raise for texts that are none.
_UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
    struct.error,
)


class PasskeyInvalidError(RegsvcError):
    """The answer of the passkey is not valid."""

    code = "passkey_invalid"


@contextmanager
def reading_answer() -> Iterator[None]:
    """Turn whatever is wrong with an answer of a client into one error.

    Raises:
        PasskeyInvalidError: the block could not read it.
    """
    try:
        yield
    except _UNREADABLE as error:
        raise PasskeyInvalidError from error


def read_challenge(client_data: str) -> bytes:
    """Return the challenge that an answer claims to be for.

    Args:
        client_data: `clientDataJSON`, in base64url.

    Raises:
        PasskeyInvalidError: there is none in it.
    """
    with reading_answer():
        return decode_bytes(json.loads(decode_bytes(client_data))["challenge"])


def check_client_data(party: RelyingParty, raw: bytes, *, ceremony: Ceremony, challenge: bytes) -> None:
    """Check the client's data (Web Authentication level 3, 7.1 and 7.2).

    A page in a frame of another site is refused: its user may not see whose page it is.

    Raises:
        ValueError: one of its values is not as it has to be.
    """
    data = json.loads(raw.decode("utf-8"))
    if data["type"] != ceremony:
        raise ValueError("another ceremony")
    if not hmac.compare_digest(decode_bytes(data["challenge"]), challenge):
        raise ValueError("another challenge")
    if data["origin"] not in party.origins:
        raise ValueError("another origin")
    if data.get("crossOrigin", False) is not False or data.get("topOrigin") is not None:
        raise ValueError("in a frame of another site")


def check_authenticator_data(party: RelyingParty, data: AuthenticatorData) -> None:
    """Check the authenticator's data: site, presence and verification of the user, backup flags.

    Raises:
        ValueError: one of its values is not as it has to be.
    """
    if not hmac.compare_digest(data.rp_id_hash, hashlib.sha256(party.id.encode()).digest()):
        raise ValueError("another site")
    if not data.is_user_present() or not data.is_user_verified():
        raise ValueError("user not verified")
    if data.is_backed_up() and not data.is_backup_eligible():
        raise ValueError("backed up without being eligible")
