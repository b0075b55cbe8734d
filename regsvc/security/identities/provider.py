"""One identity provider: the request that a browser takes to it, and what its answer proves."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any, Final
from urllib.parse import urlencode

from regsvc.config.identities.identity_settings import ProviderSettings
from regsvc.security.identities import github, id_token
from regsvc.security.identities.client_secret import authenticate
from regsvc.security.identities.errors import IdentityRefusedError, ProviderUnavailableError
from regsvc.security.identities.flow_state import FlowState
from regsvc.security.identities.key_set import KeySet
from regsvc.security.identities.metadata import Metadata, MetadataSource
from regsvc.security.identities.proven_identity import ProvenIdentity, read_claims
from regsvc.security.identities.strict_json import read_object
from regsvc.security.identities.web_client import WebClient

_LONGEST_TOKEN: Final = 16_384
_ANSWERS: Final = frozenset({200, 400, 401, 403})


class IdentityProvider:
    """A provider, with what is known of it.

    Args:
        settings: of this provider.
        web: speaks to it; None makes one.
    """

    def __init__(self, settings: ProviderSettings, web: WebClient | None = None) -> None:
        self.settings = settings
        self._web = web or WebClient()
        self._metadata = MetadataSource(settings, self._web)
        self._keys = KeySet(self._web)

    async def make_request(self, flow: FlowState, redirect_uri: str) -> str:
        """Return the URL that a browser is led to (RFC 6749, 4.1.1; RFC 7636; OpenID Connect Core 1.0, 3.1.2.1).

        Raises:
            ProviderUnavailableError, IdentityRefusedError: its metadata cannot be had.
        """
        metadata = await self._metadata.get()
        parameters = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._scope(),
            "state": flow.state,
            "code_challenge": hash_verifier(flow.verifier),
            "code_challenge_method": "S256",
        }
        if self.settings.has_id_tokens:
            parameters["nonce"] = flow.nonce
        if self.settings.posts_answer:
            parameters["response_mode"] = "form_post"
        if flow.purpose == "prove":
            parameters |= {"prompt": "login", "max_age": "0"}
        separator = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{separator}{urlencode(parameters)}"

    async def redeem(
        self, flow: FlowState, *, code: str, issuer: str | None, redirect_uri: str
    ) -> ProvenIdentity:
        """Exchange a code for the identity that it stands for. Hold no connection to the database meanwhile.

        Args:
            flow: that the code belongs to, found by its state.
            code: from the provider's answer.
            issuer: `iss` of the answer, if it had one (RFC 9207).
            redirect_uri: as in the request.

        Raises:
            ProviderUnavailableError: the provider does not answer.
            IdentityRefusedError: its answer proves nothing.
        """
        metadata = await self._metadata.get()
        if (issuer is None and metadata.names_issuer) or (issuer is not None and issuer != metadata.issuer):
            raise IdentityRefusedError("answer of another issuer")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": flow.verifier,
        }
        tokens = await self._post(metadata, form)
        access_token = tokens.get("access_token")
        if not isinstance(access_token, str) or not 0 < len(access_token) <= _LONGEST_TOKEN:
            raise IdentityRefusedError("no access token")
        if not access_token.isascii() or not access_token.isprintable() or " " in access_token:
            raise IdentityRefusedError("no access token")
        if not self.settings.has_id_tokens:
            return await github.read_identity(self.settings, self._web, access_token)
        claims = await self._verify(metadata, tokens.get("id_token"), flow.nonce, access_token)
        if flow.purpose == "prove" and claims.get("auth_time", time.time()) < flow.begun - id_token.LEEWAY:
            raise IdentityRefusedError("not authenticated again")
        if not claims.get("email") and metadata.userinfo_endpoint:
            # What is said of an address comes from where the address comes from.
            claims |= {"email_verified": None} | await self._ask_userinfo(metadata, claims, access_token)
        return read_claims(self.settings, claims)

    async def _post(self, metadata: Metadata, form: dict[str, str]) -> dict[str, Any]:
        headers, form = authenticate(self.settings, form, basic=metadata.basic_auth)
        status, raw = await self._web.send(
            "POST",
            metadata.token_endpoint,
            {"Content-Type": "application/x-www-form-urlencoded", **headers},
            urlencode(form).encode(),
            expected=_ANSWERS,
        )
        try:
            tokens = read_object(raw)
        except ValueError:
            raise IdentityRefusedError("tokens not JSON") from None
        if status != 200 or "error" in tokens:  # noqa: PLR2004 - GitHub refuses with 200, too
            if tokens.get("error") == "temporarily_unavailable":
                raise ProviderUnavailableError
            raise IdentityRefusedError("code refused")
        return tokens

    async def _verify(
        self, metadata: Metadata, token: object, nonce: str, access_token: str
    ) -> dict[str, Any]:
        if not isinstance(token, str):
            raise IdentityRefusedError("no ID token")
        algorithm, kid = id_token.read_header(token, metadata.algorithms)
        key = await self._keys.find(metadata.jwks_uri, algorithm, kid)
        expected = id_token.Expected(
            metadata.issuer, self.settings.client_id, nonce, access_token, metadata.algorithms
        )
        return id_token.verify(token, key, algorithm, expected)

    async def _ask_userinfo(
        self, metadata: Metadata, claims: dict[str, Any], access_token: str
    ) -> dict[str, Any]:
        """Return more claims of the same person (OpenID Connect Core 1.0, 5.3.2)."""
        headers = {"Authorization": f"Bearer {access_token}"}
        try:
            more = read_object(await self._web.get(metadata.userinfo_endpoint, headers))
        except ValueError:
            raise IdentityRefusedError("claims not JSON") from None
        if more.get("sub") != claims["sub"]:
            raise IdentityRefusedError("claims of another person")
        wanted = ("email", "email_verified", "name")
        return {name: more[name] for name in wanted if name in more}

    def _scope(self) -> str:
        if not self.settings.has_id_tokens:
            return github.SCOPE
        return "openid email name" if self.settings.name == "apple" else "openid email profile"


def hash_verifier(verifier: str) -> str:
    """Return the code challenge of a verifier, by S256 (RFC 7636, 4.2)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class IdentityProviders:
    """The providers of a process, each with what is known of it."""

    def __init__(self) -> None:
        self._known: dict[str, IdentityProvider] = {}

    def get(self, settings: ProviderSettings) -> IdentityProvider:
        """Return a provider; the same one for the same settings."""
        known = self._known.get(settings.name)
        if known is None or known.settings != settings:
            known = self._known[settings.name] = IdentityProvider(settings)
        return known
