"""Validation of an ID token (OpenID Connect Core 1.0, 3.1.3.7)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from regsvc.security.identities.errors import IdentityRefusedError
from regsvc.security.identities.strict_json import read_object

if TYPE_CHECKING:
    from regsvc.security.identities.key_set import Key

LEEWAY: Final = 60  # seconds that clocks may differ
LONGEST: Final = 16_384  # characters of a token
LONGEST_SUBJECT: Final = 255  # characters (OpenID Connect Core 1.0, 2)
_SHORTEST_RSA: Final = 2048  # bits
_TIMES: Final = ("exp", "iat", "nbf", "auth_time")
_TENANT: Final = "{tenantid}"
_TENANT_ID: Final = re.compile(r"[0-9a-f-]{36}")


@dataclass(frozen=True)
class Expected:
    """What an ID token has to say.

    Args:
        issuer: of the provider's metadata; `{tenantid}` stands for the token's own tenant.
        client_id: ours.
        nonce: of the authorization request.
        access_token: that came with the token.
        algorithms: that the provider uses and we verify.
    """

    issuer: str
    client_id: str
    nonce: str
    access_token: str
    algorithms: tuple[str, ...]


def read_header(token: str, algorithms: tuple[str, ...]) -> tuple[str, str | None]:
    """Return the algorithm and the key's name of a token, not yet verified.

    Raises:
        IdentityRefusedError: it is no token, or its algorithm is not taken.
    """
    try:
        if len(token) > LONGEST or not token.isascii():
            raise ValueError  # noqa: TRY301 - likewise no token
        encoded = token.split(".", 1)[0]
        header = read_object(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except ValueError:
        raise IdentityRefusedError("no token") from None
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in algorithms:
        raise IdentityRefusedError("algorithm not allowed")
    if "crit" in header or (kid is not None and not isinstance(kid, str)):
        raise IdentityRefusedError("header not understood")
    return str(algorithm), kid


def verify(token: str, key: Key, algorithm: str, expected: Expected) -> dict[str, Any]:
    """Return the claims of a valid ID token.

    Args:
        token: as it came.
        key: public, chosen by `read_header`.
        algorithm: likewise.
        expected: what it has to say.

    Raises:
        IdentityRefusedError: it is not valid.
    """
    import jwt  # noqa: PLC0415 - only where a provider is used

    class Reader(jwt.PyJWT):
        """Reads claims strictly: no key twice."""

        def _decode_payload(self, decoded: dict[str, Any]) -> dict[str, Any]:
            return read_object(decoded["payload"])

    try:
        public = jwt.PyJWK(key, algorithm)
        if getattr(public.key, "key_size", _SHORTEST_RSA) < _SHORTEST_RSA and key.get("kty") == "RSA":
            raise IdentityRefusedError("key too short")
        claims: dict[str, Any] = Reader().decode_complete(
            token,
            key=public,
            algorithms=[algorithm],
            audience=expected.client_id,
            leeway=LEEWAY,
            options={"require": ["iss", "sub", "aud", "exp", "iat"], "verify_iss": False},
        )["payload"]
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise IdentityRefusedError(f"ID token: {type(error).__name__}") from error
    _check(claims, expected, algorithm)
    return claims


def _check(claims: dict[str, Any], expected: Expected, algorithm: str) -> None:
    """Check what PyJWT leaves to us: exact types, issuer, azp, nonce, at_hash.

    Raises:
        IdentityRefusedError: a claim is not as expected.
    """
    if any(name in claims and type(claims[name]) not in {int, float} for name in _TIMES):
        raise IdentityRefusedError("a time is no number")
    issuer, tenant = expected.issuer, claims.get("tid")
    if _TENANT in issuer and isinstance(tenant, str) and _TENANT_ID.fullmatch(tenant):
        issuer = issuer.replace(_TENANT, tenant)
    if claims["iss"] != issuer or _TENANT in issuer:
        raise IdentityRefusedError("another issuer")
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if audience != [expected.client_id]:
        raise IdentityRefusedError("other audiences")
    if claims.get("azp", expected.client_id) != expected.client_id:
        raise IdentityRefusedError("issued to another client")
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), expected.nonce.encode()):
        raise IdentityRefusedError("another nonce")
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        raise IdentityRefusedError("no subject")
    if "at_hash" in claims and claims["at_hash"] != _hash(expected.access_token, algorithm):
        raise IdentityRefusedError("of another access token")


def _hash(access_token: str, algorithm: str) -> str:
    """Return `at_hash` (OpenID Connect Core 1.0, 3.1.3.6); EdDSA with Ed25519 goes with SHA-512."""
    name = "sha512" if algorithm == "EdDSA" else f"sha{algorithm[2:]}"
    digest = hashlib.new(name, access_token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
