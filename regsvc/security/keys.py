"""Signing keys and the access tokens that they sign.

Ed25519 (RFC 8037), several at a time, each with a `kid`. The private halves are sealed at rest with a key derived
from the service's secret; the public halves are what `/.well-known/jwks.json` serves. Access tokens follow RFC
9068 (`typ: at+jwt`), checked against one algorithm and a fixed set of claims (RFC 8725).
"""

from __future__ import annotations

import base64
import re
import secrets as random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import jwt
import structlog
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from psycopg.rows import class_row

from regsvc.errors import ConfigurationError, DatabaseUnavailableError, RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.seals import UnsealError, reseal, seal, unseal
from regsvc.security.tokens import Secrets

log = structlog.get_logger()

ACCESS_TOKEN_LIFE = timedelta(minutes=10)
LEEWAY = timedelta(seconds=30)
MAX_TOKEN_BYTES = 4096
_ALGORITHM = "EdDSA"
_TYPE = "at+jwt"
_REQUIRED = ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "role"]
_INSTANTS = ("iat", "nbf", "exp")
# Exactly that, since a decoder of base64 overlooks padding; a signature of 64 bytes has 86 characters.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")
_SEAL = "signing-key-seal"
_REFRESH = 60.0  # seconds that a ring is good for
_RETRY = 5.0  # seconds until the next try when the database was away
_LOCK = 0x5245_4753_4B45_5953  # "REGSKEYS": one process makes the first key, or seals anew


class AccessTokenInvalidError(RegsvcError):
    """The access token is missing, malformed, expired or not ours."""


class SealError(ConfigurationError):
    """REGSVC_SECRET_KEY does not open the signing keys in this database: it is not the one they were sealed with."""


@dataclass(frozen=True)
class AccessToken:
    """The claims of a verified access token."""

    user_id: UUID
    session_id: UUID
    role: str


@dataclass(frozen=True, repr=False)
class _StoredKey:
    kid: str
    public: bytes
    sealed: bytes
    retired_at: datetime | None


@dataclass(frozen=True, repr=False)
class KeyRing:
    """The signing keys of one moment.

    Args:
        issuer: the `iss` and `aud` of every token: the service's public URL.
        signer: the `kid` that signs new tokens.
        private: the signer's private key.
        public: what verifies, by `kid`; retired keys stay until the last token they signed is dead.
    """

    issuer: str
    signer: str
    private: Ed25519PrivateKey
    public: Mapping[str, Ed25519PublicKey]

    def sign(self, token: AccessToken, *, now: datetime | None = None) -> str:
        """Return an access token good for `ACCESS_TOKEN_LIFE`."""
        issued = now or datetime.now(UTC)
        claims = {
            "iss": self.issuer,
            "aud": self.issuer,
            "sub": str(token.user_id),
            "sid": str(token.session_id),
            "jti": uuid4().hex,
            "iat": issued,
            "nbf": issued,
            "exp": issued + ACCESS_TOKEN_LIFE,
            "role": token.role,
        }
        headers = {"kid": self.signer, "typ": _TYPE}
        return jwt.encode(claims, self.private, algorithm=_ALGORITHM, headers=headers)

    def verify(self, text: str) -> AccessToken:
        """Return the claims of an access token.

        Raises:
            AccessTokenInvalidError: whatever is wrong with it; the cause says what, the client is not told.
        """
        if len(text) > MAX_TOKEN_BYTES or not _COMPACT.fullmatch(text):
            raise AccessTokenInvalidError
        try:
            header = jwt.get_unverified_header(text)
            kid = header.get("kid")
            if set(header) != {"alg", "kid", "typ"} or header["typ"] != _TYPE or not isinstance(kid, str):
                raise AccessTokenInvalidError
            claims = jwt.decode(
                text,
                self.public[kid],
                algorithms=[_ALGORITHM],
                issuer=self.issuer,
                audience=self.issuer,
                leeway=LEEWAY,
                options={"require": _REQUIRED, "strict_aud": True},
            )
            return _read_claims(claims)
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise AccessTokenInvalidError from error

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the public halves as a JWK Set (RFC 7517, RFC 8037)."""
        return {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "x": base64.urlsafe_b64encode(key.public_bytes_raw()).rstrip(b"=").decode(),
                    "kid": kid,
                    "alg": _ALGORITHM,
                    "use": "sig",
                }
                for kid, key in self.public.items()
            ]
        }


def _read_claims(claims: Mapping[str, object]) -> AccessToken:
    """Return what claims say, whose signature is good; ours have each its one type, which the library does not mind.

    Raises:
        ValueError: one has another.
    """
    user_id, session_id, role = claims["sub"], claims["sid"], claims["role"]
    texts = (user_id, session_id, role, claims["jti"])
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("not a text")
    if not all(type(claims[name]) is int for name in _INSTANTS):
        raise ValueError("not an instant")
    token = AccessToken(UUID(str(user_id)), UUID(str(session_id)), str(role))
    if (str(token.user_id), str(token.session_id)) != (user_id, session_id):
        raise ValueError("not an id as we write it")
    return token


class KeyRings:
    """The key ring as it is now, read again every minute, so that a rotation needs no restart.

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
                    async with self._pool.connection() as conn:
                        self._ring = await load_key_ring(conn, self._secrets, self._issuer)
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
                else:
                    self._read_at = trio.current_time()
            return self._ring


async def load_key_ring(conn: Connection, secrets: Secrets, issuer: str) -> KeyRing:
    """Return the keys of this database, making the first one where there is none.

    Keys that the secret before this one sealed are sealed anew, so that they open once that one is forgotten.

    Raises:
        SealError: the secret is not the one that sealed the keys.
    """
    keys = await _select_keys(conn)
    if _find_signer(keys) is None or _reseal(keys, secrets):
        async with conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(%(lock)s)", {"lock": _LOCK})
            keys = await _select_keys(conn)
            if _find_signer(keys) is None:
                await _insert_key(conn, secrets)
            await _update_seals(conn, _reseal(keys, secrets))
            keys = await _select_keys(conn)
    newest = _find_signer(keys)
    assert newest is not None  # noqa: S101 - it was made above
    return KeyRing(
        issuer=issuer,
        signer=newest.kid,
        private=_unseal(newest, secrets),
        public={key.kid: Ed25519PublicKey.from_public_bytes(key.public) for key in keys},
    )


async def check_seals(conn: Connection, secrets: Secrets) -> None:
    """Make sure that the key that signs can be opened, and change nothing; no key at all is made later.

    Raises:
        SealError: the secret is not the one that sealed the keys.
    """
    newest = _find_signer(await _select_keys(conn))
    if newest is not None:
        _unseal(newest, secrets)


async def _select_keys(conn: Connection) -> list[_StoredKey]:
    """Return the keys that sign or still verify, the newest first."""
    async with conn.cursor(row_factory=class_row(_StoredKey)) as cursor:
        await cursor.execute(
            """
            SELECT kid, public, sealed, retired_at
              FROM signing_keys
             WHERE retired_at IS NULL OR retired_at > now() - %(life)s
             ORDER BY created_at DESC, kid
            """,
            {"life": ACCESS_TOKEN_LIFE + LEEWAY},
        )
        return await cursor.fetchall()


def _find_signer(keys: Sequence[_StoredKey]) -> _StoredKey | None:
    return next((key for key in keys if key.retired_at is None), None)


async def _insert_key(conn: Connection, secrets: Secrets) -> None:
    private = Ed25519PrivateKey.generate()
    kid = random.token_urlsafe(12)
    await conn.execute(
        "INSERT INTO signing_keys (kid, public, sealed) VALUES (%(kid)s, %(public)s, %(sealed)s)",
        {
            "kid": kid,
            "public": private.public_key().public_bytes_raw(),
            # Bound to the kid: a sealed key cannot be moved to another row.
            "sealed": seal(secrets, _SEAL, private.private_bytes_raw(), bound=kid.encode()),
        },
    )


def _reseal(keys: Sequence[_StoredKey], secrets: Secrets) -> dict[str, bytes]:
    """Return, by `kid`, the new seals of those keys that the secret before this one sealed."""
    renewed = {}
    for key in keys:
        with suppress(UnsealError):  # whether that matters depends on which key it is
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
    log.info("signing keys sealed anew", keys=len(renewed))


def _unseal(key: _StoredKey, secrets: Secrets) -> Ed25519PrivateKey:
    try:
        raw = unseal(secrets, _SEAL, key.sealed, bound=key.kid.encode())
    except UnsealError as error:
        raise SealError from error
    return Ed25519PrivateKey.from_private_bytes(raw)
