"""What a provider says of itself (OpenID Connect Discovery 1.0), kept for an hour."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import trio

from regsvc.config.identities.identity_settings import ProviderSettings
from regsvc.security.identities.errors import IdentityRefusedError, ProviderUnavailableError
from regsvc.security.identities.strict_json import read_object
from regsvc.security.identities.web_client import WebClient, is_sound

LIFE: Final = 3600.0  # seconds
RETRY: Final = 10.0  # seconds between failed requests
ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""Signatures of ID tokens that are verified: with public keys alone, never `none` or a MAC (RFC 8725, 3.1, 3.2)."""
_MICROSOFT: Final = re.compile(r"https://login\.microsoftonline\.com/([0-9a-f-]{36}|\{tenantid\})/v2\.0")


@dataclass(frozen=True)
class Metadata:
    """What we use of a provider's metadata.

    Args:
        issuer: in ID tokens; Microsoft's may have the placeholder `{tenantid}`.
        authorization_endpoint: where browsers are led.
        token_endpoint: where codes are redeemed.
        jwks_uri: the keys of ID tokens.
        userinfo_endpoint: claims that the ID token leaves out; empty if there is none.
        algorithms: signatures that are taken.
        basic_auth: our secret goes in the header, not in the form.
        names_issuer: answers carry `iss` (RFC 9207).
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str = ""
    userinfo_endpoint: str = ""
    algorithms: tuple[str, ...] = ("RS256",)
    basic_auth: bool = True
    names_issuer: bool = False


class MetadataSource:
    """Fetches and keeps the metadata of one provider.

    Args:
        provider: its settings.
        web: speaks to it.
    """

    def __init__(self, provider: ProviderSettings, web: WebClient) -> None:
        self._provider = provider
        self._web = web
        self._known: Metadata | None = None
        self._until = -1.0
        self._lock = trio.Lock()

    async def get(self) -> Metadata:
        """Return the metadata. What is known serves on while the provider does not answer.

        Raises:
            ProviderUnavailableError: it does not answer, and nothing is known.
            IdentityRefusedError: what it answers is no metadata of this provider.
        """
        if not self._provider.has_id_tokens:
            return _github(self._provider.issuer)
        if trio.current_time() < self._until and self._known is not None:
            return self._known
        async with self._lock:
            if trio.current_time() < self._until:
                if self._known is None:
                    raise ProviderUnavailableError
                return self._known
            self._until = trio.current_time() + RETRY
            try:
                url = self._provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
                self._known = read_metadata(self._provider, await self._web.get(url))
                self._until = trio.current_time() + LIFE
            except (ProviderUnavailableError, IdentityRefusedError):
                if self._known is None:
                    raise
            return self._known


def read_metadata(provider: ProviderSettings, raw: bytes) -> Metadata:
    """Return the metadata in a document.

    Raises:
        IdentityRefusedError: it is none, or another provider's (OpenID Connect Discovery 1.0, 4.3).
    """
    try:
        found = read_object(raw)
    except ValueError:
        raise IdentityRefusedError("metadata not JSON") from None
    issuer = found.get("issuer")
    own = issuer == provider.issuer
    if provider.name == "microsoft" and isinstance(issuer, str):
        own = own or _MICROSOFT.fullmatch(issuer) is not None
    if not own:
        raise IdentityRefusedError("metadata of another issuer")
    urls = [found.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
    if not all(is_sound(url, provider.issuer) for url in urls):
        raise IdentityRefusedError("metadata with an unusable URL")
    userinfo = found.get("userinfo_endpoint")
    offered = _list_words(found, "id_token_signing_alg_values_supported", "RS256")
    methods = _list_words(found, "token_endpoint_auth_methods_supported", "client_secret_basic")
    return Metadata(
        issuer=str(issuer),
        authorization_endpoint=str(urls[0]),
        token_endpoint=str(urls[1]),
        jwks_uri=str(urls[2]),
        userinfo_endpoint=str(userinfo) if is_sound(userinfo, provider.issuer) else "",
        algorithms=tuple(name for name in ALGORITHMS if name in offered),
        basic_auth="client_secret_basic" in methods and provider.name != "apple",
        names_issuer=found.get("authorization_response_iss_parameter_supported") is True,
    )


def _list_words(found: dict[str, Any], name: str, default: str) -> list[object]:
    words = found.get(name)
    return words if isinstance(words, list) else [default]


def _github(site: str) -> Metadata:
    """Return the endpoints of GitHub, or of a GitHub Enterprise Server."""
    return Metadata(
        issuer=site,
        authorization_endpoint=f"{site}/login/oauth/authorize",
        token_endpoint=f"{site}/login/oauth/access_token",
        basic_auth=False,
    )
