"""The signing keys of a process, read again every minute so that a rotation needs no restart."""

from __future__ import annotations

import hashlib
import time

import structlog
import trio

from regsvc.config.settings import TokenAlgorithm
from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.pool import Pool
from regsvc.security.signing.access_token import (
    AccessToken,
    AccessTokenInvalidError,
    SealError,
    UnknownKeyError,
)
from regsvc.security.signing.key_ring import KeyRing
from regsvc.security.signing.key_store import load_key_ring
from regsvc.security.tokens import Secrets

log = structlog.get_logger()

_REFRESH = 60.0  # seconds for which a ring is used
_RETRY = 5.0  # seconds until the next attempt when the database was unavailable
_AT_MOST_EVERY = 1.0  # seconds between readings caused by unknown keys

MOST_VERIFIED = 8192  # tokens


class VerifiedTokens:
    """What a token says, by a hash of its text, until it expires or the keys change.

    A verified token proves who may ask, never that the session is still alive: the session is looked up at every
    request. The text is not kept, so that a copy of the memory holds no token.

    Args:
        most: number of tokens; the oldest is forgotten for a new one.
    """

    def __init__(self, most: int = MOST_VERIFIED) -> None:
        self._most = most
        self._keys: dict[str, bytes] = {}
        self._found: dict[bytes, tuple[AccessToken, float]] = {}

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self._found)

    def trust(self, ring: KeyRing) -> None:
        """Forget all tokens if these keys are not the same as before: one may have been withdrawn."""
        keys = {kid: key.raw for kid, key in ring.public.items()}
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


class KeyRings:
    """The current key ring of this process.

    Args:
        pool: connections to the database with the keys.
        secrets: unseal the keys.
        issuer: the service's public URL.
        algorithm: of the first key, should there be none.
    """

    def __init__(
        self, pool: Pool, secrets: Secrets, issuer: str, algorithm: TokenAlgorithm = "EdDSA"
    ) -> None:
        self._pool = pool
        self._secrets = secrets
        self._issuer = issuer
        self._algorithm = algorithm
        self._ring: KeyRing | None = None
        self._read_at = -_REFRESH
        self._reading = trio.Lock()
        self._verified = VerifiedTokens()

    async def current(self) -> KeyRing:
        """Return the ring. The last one stays in use while the database is unavailable or a newer secret is set.

        Raises:
            DatabaseUnavailableError: no ring was read yet, and the database is unavailable.
            SealError: no ring was read yet, and another secret sealed the keys.
        """
        if self._ring is not None and trio.current_time() - self._read_at < _REFRESH:
            return self._ring
        async with self._reading:
            if self._ring is None or trio.current_time() - self._read_at >= _REFRESH:
                try:
                    return await self._read()
                except DatabaseUnavailableError:
                    if self._ring is None:
                        raise
                    self._read_at = trio.current_time() - _REFRESH + _RETRY
                except SealError as error:
                    # Processes with a newer secret run beside this one, which keeps its ring until it is restarted.
                    log.warning("signing keys not opened", error=str(error))
                    if self._ring is None:
                        raise
                    self._read_at = trio.current_time()
            return self._ring

    async def verify(self, text: str) -> AccessToken:
        """Return the claims of an access token, even if another process created its key just now.

        Raises:
            AccessTokenInvalidError: the token is invalid.
            DatabaseUnavailableError, SealError: as for `current`, or the keys cannot be read again.
        """
        ring = await self.current()
        try:
            return self._verified.verify(ring, text)
        except UnknownKeyError:
            newer = await self._read_newer(ring)
        try:
            return self._verified.verify(newer, text)
        except UnknownKeyError as error:
            raise AccessTokenInvalidError from error

    async def _read_newer(self, known: KeyRing) -> KeyRing:
        """Return a ring read after this one, reading it if needed. Invented keys cause at most one reading a second."""
        async with self._reading:
            if self._ring is not None and self._ring is not known:
                return self._ring
            await trio.sleep(max(0.0, self._read_at + _AT_MOST_EVERY - trio.current_time()))
            return await self._read()

    async def _read(self) -> KeyRing:
        async with self._pool.connection() as conn:
            self._ring = await load_key_ring(conn, self._secrets, self._issuer, self._algorithm)
        self._verified.trust(self._ring)
        self._read_at = trio.current_time()
        return self._ring
