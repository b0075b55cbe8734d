"""Who a person is at GitHub, which has no ID tokens: asked of its API with the access token."""

from __future__ import annotations

from typing import Any, Final

from regsvc.config.identities.identity_settings import ProviderSettings
from regsvc.security.identities.errors import IdentityRefusedError
from regsvc.security.identities.proven_identity import (
    LONGEST_EMAIL,
    LONGEST_NAME,
    ProvenIdentity,
    clean,
    judge_address,
)
from regsvc.security.identities.strict_json import read_list, read_object
from regsvc.security.identities.web_client import WebClient

SCOPE: Final = "read:user user:email"
_SITE: Final = "https://github.com"
_API: Final = "https://api.github.com"
_MOST_ADDRESSES: Final = 100


async def read_identity(provider: ProviderSettings, web: WebClient, access_token: str) -> ProvenIdentity:
    """Return the owner of an access token, with the primary address if GitHub has verified it.

    Raises:
        ProviderUnavailableError: GitHub does not answer.
        IdentityRefusedError: what it answers is no user.
    """
    base = _API if provider.issuer == _SITE else f"{provider.issuer.rstrip('/')}/api/v3"
    headers = {"Authorization": f"Bearer {access_token}", "Accept": "application/vnd.github+json"}
    try:
        user = read_object(await web.get(f"{base}/user", headers))
        addresses = read_list(await web.get(f"{base}/user/emails", headers))[:_MOST_ADDRESSES]
    except ValueError:
        raise IdentityRefusedError("not JSON") from None
    number = user.get("id")
    if type(number) is not int or number <= 0:
        raise IdentityRefusedError("no subject")
    email = _find_primary(addresses)
    return ProvenIdentity(
        provider=provider.name,
        issuer=provider.issuer,
        subject=str(number),
        email=email,
        trust=judge_address(provider, {"iss": provider.issuer, "email_verified": bool(email)}, email),
        name=clean(user.get("name"), LONGEST_NAME),
    )


def _find_primary(addresses: list[Any]) -> str:
    """Return the one address that is primary and verified; empty if there is none, or more than one."""
    found = [
        clean(entry.get("email"), LONGEST_EMAIL)
        for entry in addresses
        if isinstance(entry, dict) and entry.get("primary") is True and entry.get("verified") is True
    ]
    return found[0] if len(found) == 1 else ""
