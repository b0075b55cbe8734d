"""The public keys of a provider's ID tokens (RFC 7517), fetched again for an unknown key, but not often."""

from __future__ import annotations

from typing import Any, Final

import trio

from regsvc.security.identities.errors import IdentityRefusedError, ProviderUnavailableError
from regsvc.security.identities.strict_json import read_object
from regsvc.security.identities.web_client import WebClient

LIFE: Final = 3600.0  # seconds
PAUSE: Final = 30.0  # seconds between requests for an unknown key
MOST_KEYS: Final = 64
_KINDS: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}

Key = dict[str, Any]  # a JWK


class KeySet:
    """Fetches and keeps the keys of one provider.

    Args:
        web: speaks to it.
    """

    def __init__(self, web: WebClient) -> None:
        self._web = web
        self._url = ""
        self._keys: list[Key] = []
        self._fetched = float("-inf")
        self._lock = trio.Lock()

    async def find(self, url: str, algorithm: str, kid: str | None) -> Key:
        """Return the key that a token names; without a name, the only one that fits its algorithm.

        Args:
            url: of the keys, from the provider's metadata.
            algorithm: of the token's signature.
            kid: as in the token's header.

        Raises:
            ProviderUnavailableError: the keys cannot be fetched.
            IdentityRefusedError: there is no such key.
        """
        async with self._lock:
            age = trio.current_time() - self._fetched
            if url != self._url or age > LIFE:
                await self._fetch(url)
            found = self._select(algorithm, kid)
            if found is None and trio.current_time() - self._fetched >= PAUSE:
                await self._fetch(url)
                found = self._select(algorithm, kid)
        if found is None:
            raise IdentityRefusedError("unknown key")
        return found

    def _select(self, algorithm: str, kid: str | None) -> Key | None:
        found = [
            key
            for key in self._keys
            if key.get("kty") == _KINDS[algorithm[:2]]
            and key.get("use", "sig") == "sig"
            and key.get("alg", algorithm) == algorithm
            and "d" not in key
            and (kid is None or key.get("kid") == kid)
        ]
        return found[0] if len(found) == 1 else None

    async def _fetch(self, url: str) -> None:
        self._fetched = trio.current_time()
        try:
            found = read_object(await self._web.get(url)).get("keys")
        except ValueError:
            raise IdentityRefusedError("keys not JSON") from None
        except ProviderUnavailableError:
            if url == self._url and self._keys:
                return  # those that are known serve on
            raise
        if not isinstance(found, list) or len(found) > MOST_KEYS:
            raise IdentityRefusedError("no list of keys")
        self._url, self._keys = url, [key for key in found if isinstance(key, dict)]
