"""An identity that a provider has just vouched for, and what it says of the address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from regsvc.config.identities.identity_settings import ProviderSettings

Trust: TypeAlias = Literal["authoritative", "verified", "claimed"]
"""How far a provider's word on an address goes.

`authoritative`: it runs the mailbox. `verified`: it says that it saw the person read its mail, at some time.
`claimed`: it only repeats what it was told.
"""

_GOOGLE: Final = "https://accounts.google.com"
_GMAIL: Final = frozenset({"gmail.com", "googlemail.com"})
_APPLE: Final = "https://appleid.apple.com"
_ICLOUD: Final = frozenset({"icloud.com", "me.com", "mac.com", "privaterelay.appleid.com"})
LONGEST_EMAIL: Final = 254  # characters
LONGEST_NAME: Final = 100


@dataclass(frozen=True)
class ProvenIdentity:
    """A person as a provider knows them.

    Args:
        provider: its name in the settings.
        issuer: who vouches.
        subject: the person's id there; with the issuer the key of the identity.
        email: as the provider has it; empty if it gives none.
        trust: how far its word on the address goes.
        name: of the person; empty if it gives none.
    """

    provider: str
    issuer: str
    subject: str
    email: str
    trust: Trust
    name: str


def read_claims(provider: ProviderSettings, claims: dict[str, Any]) -> ProvenIdentity:
    """Return the identity in the claims of a valid ID token."""
    email = clean(claims.get("email"), LONGEST_EMAIL)
    return ProvenIdentity(
        provider=provider.name,
        issuer=claims["iss"],
        subject=claims["sub"],
        email=email,
        trust=judge_address(provider, claims, email),
        name=clean(claims.get("name"), LONGEST_NAME),
    )


def clean(value: object, longest: int) -> str:
    """Return a text of a provider without surrounding spaces; empty if it is none, too long, or has controls."""
    text = value.strip() if isinstance(value, str) else ""
    return text if text.isprintable() and len(text) <= longest else ""


def judge_address(provider: ProviderSettings, claims: dict[str, Any], email: str) -> Trust:
    """Return how far a provider's word on an address goes.

    Microsoft's `email` is whatever an administrator of any tenant typed, unless `xms_edov` says that the tenant owns
    the domain. Google runs the mailboxes of gmail.com and of a Workspace domain (`hd`); of others it knows what was
    true once.

    Args:
        provider: its settings.
        claims: of the ID token, or what stands for it.
        email: as in the claims.
    """
    domain = email.rpartition("@")[2].lower()
    issuer = claims.get("iss")
    if provider.name == "microsoft":
        proved = str(claims.get("xms_edov")).lower() in {"true", "1"}
    else:
        proved = claims.get("email_verified") is True or claims.get("email_verified") == "true"
    if not proved:
        return "claimed"
    if domain in provider.domains:
        return "authoritative"
    if issuer == _GOOGLE and (domain in _GMAIL or _is_text(claims.get("hd"), domain)):
        return "authoritative"
    if issuer == _APPLE and domain in _ICLOUD:
        return "authoritative"
    return "verified"


def _is_text(value: object, text: str) -> bool:
    return isinstance(value, str) and value.lower() == text != ""
