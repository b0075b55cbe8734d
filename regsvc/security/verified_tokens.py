"""Access tokens whose signature was verified, so that the next requests with one need not verify it again."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regsvc.security.keys import AccessToken, KeyRing

MOST = 8192


class VerifiedTokens:
    """What a token says, by a hash of its text, until it expires or the keys change.

    A verified token proves who may ask, never that the session is still alive: the session is looked up at every
    request. The text is not kept, so that a copy of the memory holds no token.

    Args:
        most: number of tokens; the oldest is forgotten for a new one.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._keys: dict[str, bytes] = {}
        self._found: dict[bytes, tuple[AccessToken, float]] = {}

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self._found)

    def trust(self, ring: KeyRing) -> None:
        """Forget all tokens if these keys are not the same as before: one may have been withdrawn."""
        keys = {kid: key.public_bytes_raw() for kid, key in ring.public.items()}
        if keys != self._keys:
            self._keys = keys
            self._found.clear()

    def verify(self, ring: KeyRing, text: str) -> AccessToken:
        """Return the claims of an access token.

        Args:
            ring: the last one that was trusted.
            text: the token.

        Raises:
            UnknownKeyError, AccessTokenInvalidError: as for `KeyRing.verify`.
        """
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        known = self._found.get(name)
        if known is not None and time.time() < known[1]:
            return known[0]
        token, until = ring.read(text)
        if len(self._found) >= self._most:
            del self._found[next(iter(self._found))]
        self._found[name] = token, until
        return token
