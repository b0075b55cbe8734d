"""Passkeys as the API takes and shows them, in the JSON of the Web Authentication level 3 interfaces."""

# ruff: noqa: N815 - the interfaces of browsers have such names

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from regsvc.accounts.factors.passkeys import MOST, Passkey
from regsvc.schemas.fields import Body
from regsvc.schemas.formats import Id, Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.passkeys.encoding import encode_bytes

_LONGEST = 12_000  # characters; a body has 16 KiB
Base64Url = Annotated[
    str,
    StringConstraints(max_length=_LONGEST, pattern=r"^[A-Za-z0-9_-]*$"),
    Field(description="Base64url without padding."),
]
_CredentialId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1364, pattern=r"^[A-Za-z0-9_-]+$"),
    Field(description="Base64url without padding."),
]
PasskeyName = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class _Answer(Body):
    """Browsers add members over time: unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore")


class AttestationResponse(_Answer):
    """What the authenticator made."""

    clientDataJSON: Base64Url
    attestationObject: Base64Url
    transports: Annotated[
        list[Annotated[str, StringConstraints(max_length=32)]], Field(default_factory=list, max_length=16)
    ]


class CreatedPasskey(_Answer):
    """The answer to creation options: `PublicKeyCredential.toJSON()`."""

    id: _CredentialId
    type: Literal["public-key"]
    response: AttestationResponse


class AssertionResponse(_Answer):
    """What the authenticator signed."""

    clientDataJSON: Base64Url
    authenticatorData: Base64Url
    signature: Base64Url
    userHandle: Base64Url | None = None


class AssertedPasskey(_Answer):
    """The answer to request options: `PublicKeyCredential.toJSON()`."""

    id: _CredentialId
    type: Literal["public-key"]
    response: AssertionResponse


class PartyShown(TypedDict):
    """The site that passkeys are for."""

    id: str
    name: str


class HolderShown(TypedDict):
    """The account that a passkey is for."""

    id: Base64Url
    name: str
    displayName: str


class AlgorithmShown(TypedDict):
    """An accepted algorithm (COSE)."""

    type: Literal["public-key"]
    alg: int


class DescriptorShown(TypedDict):
    """A passkey that is known."""

    type: Literal["public-key"]
    id: Base64Url
    transports: list[str]


class SelectionShown(TypedDict):
    """What the authenticator must do."""

    residentKey: Literal["required"]
    requireResidentKey: bool
    userVerification: Literal["required"]


class CreationOptions(TypedDict):
    """`PublicKeyCredentialCreationOptionsJSON`."""

    rp: PartyShown
    user: HolderShown
    challenge: Base64Url
    pubKeyCredParams: list[AlgorithmShown]
    timeout: Annotated[int, Field(description="Milliseconds for which the challenge is valid.")]
    excludeCredentials: list[DescriptorShown]
    authenticatorSelection: SelectionShown
    attestation: Literal["none"]


class RequestOptions(TypedDict):
    """`PublicKeyCredentialRequestOptionsJSON`."""

    rpId: str
    challenge: Base64Url
    timeout: Annotated[int, Field(description="Milliseconds for which the challenge is valid.")]
    allowCredentials: list[DescriptorShown]
    userVerification: Literal["required"]


class CreationShown(TypedDict):
    """Options for `navigator.credentials.create()`."""

    publicKey: CreationOptions


class RequestShown(TypedDict):
    """Options for `navigator.credentials.get()`."""

    publicKey: RequestOptions


class PasskeyShown(TypedDict):
    """A passkey of the user."""

    id: Id
    name: str
    synced: Annotated[bool, Field(description="It may be copied to other devices.")]
    credential_id: Annotated[Base64Url, Field(description="As the authenticator names it.")]
    created_at: Timestamp
    last_used_at: Timestamp | None


class PasskeysShown(TypedDict):
    """The passkeys of the user."""

    passkeys: Annotated[list[PasskeyShown], Field(description=f"Oldest first, at most {MOST}.")]


def show_passkey(passkey: Passkey) -> PasskeyShown:
    """Return a passkey as its owner sees it."""
    return {
        "id": str(passkey.id),
        "name": passkey.name,
        "synced": passkey.synced,
        "credential_id": encode_bytes(passkey.credential_id),
        "created_at": timestamp(passkey.created_at),
        "last_used_at": timestamp(passkey.last_used_at),
    }


def show_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return options as a browser's script takes them."""
    return {"publicKey": options}
