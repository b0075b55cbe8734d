"""Signing keys at rest, and their life cycle.

A key is published some minutes before it signs, so that clients that cache published keys have it by then. It signs
until the next one does, and stays published until the last token that it signed has expired.
"""

from __future__ import annotations

import secrets as random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import structlog
from psycopg.rows import class_row

from regsvc.config.settings import TokenAlgorithm
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.seals import UnsealError, reseal, seal, unseal
from regsvc.security.signing.access_token import SealError
from regsvc.security.signing.algorithms import ALGORITHMS, PrivateKey
from regsvc.security.signing.key_lives import ANNOUNCED, SERVED
from regsvc.security.signing.key_ring import KeyRing
from regsvc.security.tokens import Secrets

log = structlog.get_logger()

_SEAL = "signing-key-seal"
_LOCK = 0x5245_4753_4B45_5953  # "REGSKEYS": only one process at a time creates or reseals keys


class KeyNotFoundError(RegsvcError):
    """No signing key has this id."""


class KeyInUseError(RegsvcError):
    """This key is signing. Make another one sign first, with `regsvc keys rotate --now`."""


KeyState = Literal["announced", "signing", "verifying"]


@dataclass(frozen=True, repr=False)
class StoredKey:
    """A signing key at rest.

    Args:
        kid: its id.
        algorithm: that it signs with.
        public: the public half.
        sealed: the private half, sealed.
        created_at: when it was created and published.
        signs_from: when it starts to sign.
        retired_at: when it stops signing, if known.
        state: `announced` before it signs, `signing`, or `verifying` after that.
    """

    kid: str
    algorithm: TokenAlgorithm
    public: bytes
    sealed: bytes
    created_at: datetime
    signs_from: datetime
    retired_at: datetime | None
    state: KeyState

    @property
    def served_until(self) -> datetime | None:
        """When the last token that it signed expires, if known."""
        return None if self.retired_at is None else self.retired_at + SERVED


async def load_key_ring(
    conn: Connection, secrets: Secrets, issuer: str, algorithm: TokenAlgorithm = "EdDSA"
) -> KeyRing:
    """Return the keys of this database, creating the first one if there is none.

    Keys sealed with the previous secret are resealed, so that they still open when that secret is removed.

    Args:
        conn: a connection outside of a transaction.
        secrets: unseal the keys.
        issuer: the service's public URL.
        algorithm: of the first key.

    Raises:
        SealError: another secret sealed the keys.
    """
    keys = await list_keys(conn)
    if _find_signer(keys) is None or _reseal(keys, secrets):
        async with conn.transaction():
            await _lock_keys(conn)
            keys = await list_keys(conn)
            if _find_signer(keys) is None:
                await _insert_key(conn, secrets, algorithm, timedelta(0))
            await _update_seals(conn, _reseal(keys, secrets))
            keys = await list_keys(conn)
    newest = _find_signer(keys)
    assert newest is not None  # noqa: S101 - it was made above
    return KeyRing(
        issuer=issuer,
        signer=newest.kid,
        private=_unseal(newest, secrets),
        public={key.kid: ALGORITHMS[key.algorithm].load_public(key.public) for key in keys},
    )


async def check_seals(conn: Connection, secrets: Secrets) -> None:
    """Check that the signing key can be unsealed, without changing anything. A missing key is created later.

    Raises:
        SealError: another secret sealed the keys.
    """
    newest = _find_signer(await list_keys(conn))
    if newest is not None:
        _unseal(newest, secrets)


async def count_keys(conn: Connection, secrets: Secrets) -> tuple[int, int, int]:
    """Return how many keys open with the current secret, only with the previous one, and with neither."""
    found = [0, 0, 0]
    for key in await list_keys(conn):
        for place, known in enumerate((Secrets(secrets.current), secrets)):
            try:
                _unseal(key, known)
            except SealError:
                continue
            found[place] += 1
            break
        else:
            found[-1] += 1
    return found[0], found[1], found[2]


async def list_keys(conn: Connection) -> list[StoredKey]:
    """Return the keys that sign, will sign or still verify; those that sign last come first."""
    async with conn.cursor(row_factory=class_row(StoredKey)) as cursor:
        await cursor.execute(
            """
            SELECT kid, algorithm, public, sealed, created_at, signs_from, retired_at,
                   CASE WHEN retired_at <= now() THEN 'verifying'
                        WHEN signs_from > now() THEN 'announced'
                        ELSE 'signing' END AS state
              FROM signing_keys
             WHERE retired_at IS NULL OR retired_at > now() - %(served)s
             ORDER BY signs_from DESC, kid
            """,
            {"served": SERVED},
        )
        return await cursor.fetchall()


async def announce_algorithm(conn: Connection, secrets: Secrets, algorithm: TokenAlgorithm) -> str | None:
    """Create a key of this algorithm if the key that signs last is of another one, and return its id.

    Args:
        conn: a connection outside of a transaction.
        secrets: seal the key.
        algorithm: as set for this service.

    Raises:
        SealError: as for `rotate_keys`.
    """
    async with conn.transaction():
        await _lock_keys(conn)
        keys = await list_keys(conn)
        if keys and keys[0].algorithm != algorithm:
            return await rotate_keys(conn, secrets, algorithm=algorithm)
    return None


async def rotate_keys(
    conn: Connection, secrets: Secrets, *, at_once: bool = False, algorithm: TokenAlgorithm | None = None
) -> str:
    """Create a key, in the caller's transaction, and return its id.

    It is published now and signs in twelve minutes, when the previous keys stop signing.

    Args:
        conn: a connection in a transaction.
        secrets: seal the key.
        at_once: sign now; clients that cache published keys refuse its tokens for ten minutes.
        algorithm: of the key; that of the key which signs last if None.

    Raises:
        SealError: another secret sealed the keys, so no other process could sign with this one.
    """
    await _lock_keys(conn)
    await check_seals(conn, secrets)
    wait = timedelta(0) if at_once else ANNOUNCED
    if algorithm is None:
        keys = await list_keys(conn)
        algorithm = keys[0].algorithm if keys else "EdDSA"
    await conn.execute(
        "UPDATE signing_keys SET retired_at = now() + %(wait)s WHERE coalesce(retired_at > now() + %(wait)s, true)",
        {"wait": wait},
    )
    return await _insert_key(conn, secrets, algorithm, wait)


async def withdraw_key(conn: Connection, kid: str) -> None:
    """Delete a key that does not sign, in the caller's transaction. Its tokens are refused within a minute.

    If it was to sign next, the current signer continues.

    Raises:
        KeyNotFoundError: no key has this id.
        KeyInUseError: the key is signing.
    """
    await _lock_keys(conn)
    keys = await list_keys(conn)
    if kid not in {key.kid for key in keys}:
        raise KeyNotFoundError
    signer = _find_signer(keys)
    if signer is not None and signer.kid == kid:
        raise KeyInUseError
    await conn.execute("DELETE FROM signing_keys WHERE kid = %(kid)s", {"kid": kid})
    await conn.execute(
        """
        UPDATE signing_keys SET retired_at = NULL
         WHERE kid = %(signer)s AND NOT EXISTS (SELECT FROM signing_keys WHERE retired_at IS NULL)
        """,
        {"signer": None if signer is None else signer.kid},
    )


async def _lock_keys(conn: Connection) -> None:
    await conn.execute("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": _LOCK})


def _find_signer(keys: Sequence[StoredKey]) -> StoredKey | None:
    return next((key for key in keys if key.state == "signing"), None)


async def _insert_key(conn: Connection, secrets: Secrets, algorithm: TokenAlgorithm, wait: timedelta) -> str:
    private = ALGORITHMS[algorithm].generate()
    kid = random.token_hex(8)
    await conn.execute(
        """
        INSERT INTO signing_keys (kid, algorithm, public, sealed, signs_from)
        VALUES (%(kid)s, %(algorithm)s, %(public)s, %(sealed)s, now() + %(wait)s)
        """,
        {
            "kid": kid,
            "algorithm": algorithm,
            "public": private.public.raw,
            # Bound to the kid, so that a sealed key cannot be moved to another row.
            "sealed": seal(secrets, _SEAL, private.raw, bound=kid.encode()),
            "wait": wait,
        },
    )
    return kid


def _reseal(keys: Sequence[StoredKey], secrets: Secrets) -> dict[str, bytes]:
    """Return, by `kid`, new seals of the keys that the previous secret sealed."""
    renewed = {}
    for key in keys:
        with suppress(UnsealError):  # only some keys must open; callers check those
            sealed = reseal(secrets, _SEAL, key.sealed, bound=key.kid.encode())
            if sealed is not None:
                renewed[key.kid] = sealed
    return renewed


async def _update_seals(conn: Connection, renewed: Mapping[str, bytes]) -> None:
    if not renewed:
        return
    await conn.execute(
        """
        UPDATE signing_keys
           SET sealed = renewed.sealed
          FROM unnest(%(kids)s::text[], %(seals)s::bytea[]) AS renewed (kid, sealed)
         WHERE signing_keys.kid = renewed.kid
        """,
        {"kids": list(renewed), "seals": list(renewed.values())},
    )
    log.info("signing keys resealed", keys=len(renewed))


def _unseal(key: StoredKey, secrets: Secrets) -> PrivateKey:
    try:
        raw = unseal(secrets, _SEAL, key.sealed, bound=key.kid.encode())
    except UnsealError as error:
        raise SealError from error
    return ALGORITHMS[key.algorithm].load_private(raw)
