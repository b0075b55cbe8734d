"""The signing keys as a process has them: read again every minute, so that a rotation needs no restart."""

from __future__ import annotations

import structlog
import trio

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.pool import Pool
from regsvc.security.key_store import load_key_ring
from regsvc.security.keys import AccessToken, AccessTokenInvalidError, KeyRing, SealError, UnknownKeyError
from regsvc.security.tokens import Secrets

log = structlog.get_logger()

_REFRESH = 60.0  # seconds that a ring is good for
_RETRY = 5.0  # seconds until the next try when the database was away
_AT_MOST_EVERY = 1.0  # seconds between readings that unknown keys ask for


class KeyRings:
    """The key ring as it is now.

    Args:
        pool: where the keys are.
        secrets: opens them.
        issuer: the service's public URL.
    """

    def __init__(self, pool: Pool, secrets: Secrets, issuer: str) -> None:
        self._pool = pool
        self._secrets = secrets
        self._issuer = issuer
        self._ring: KeyRing | None = None
        self._read_at = -_REFRESH
        self._reading = trio.Lock()

    async def current(self) -> KeyRing:
        """Return the ring; an old one serves on while the database is away, or sealed anew by a newer secret.

        Raises:
            DatabaseUnavailableError: nothing was ever read, and it cannot be now.
            SealError: nothing was ever read, and the secret is not the one that sealed the keys.
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
                    # Processes of a newer secret run beside this one, which serves on until it is restarted.
                    log.warning("signing keys not opened", error=str(error))
                    if self._ring is None:
                        raise
                    self._read_at = trio.current_time()
            return self._ring

    async def verify(self, text: str) -> AccessToken:
        """Return the claims of an access token, also of one that a key signed which was made a moment ago elsewhere.

        Raises:
            AccessTokenInvalidError: it is not good.
            DatabaseUnavailableError, SealError: as `current`; or the keys cannot be read to find out.
        """
        ring = await self.current()
        try:
            return ring.verify(text)
        except UnknownKeyError:
            newer = await self._read_newer(ring)
        try:
            return newer.verify(text)
        except UnknownKeyError as error:
            raise AccessTokenInvalidError from error

    async def _read_newer(self, known: KeyRing) -> KeyRing:
        """Return a ring that was read after this one, reading it if nobody else has; made-up keys cost one a second."""
        async with self._reading:
            if self._ring is not None and self._ring is not known:
                return self._ring
            await trio.sleep(max(0.0, self._read_at + _AT_MOST_EVERY - trio.current_time()))
            return await self._read()

    async def _read(self) -> KeyRing:
        async with self._pool.connection() as conn:
            self._ring = await load_key_ring(conn, self._secrets, self._issuer)
        self._read_at = trio.current_time()
        return self._ring
