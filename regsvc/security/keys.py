"""Signing keys and the access tokens that they sign.

Ed25519 (RFC 8037), several keys at a time, each with a `kid`. The private halves are sealed at rest with a key derived
from the service's secret; the public halves are served at `/.well-known/jwks.json`. Access tokens follow RFC 9068
(`typ: at+jwt`), and are checked against one algorithm and a fixed set of claims (RFC 8725).
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID, uuid4

import jwt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from regsvc.errors import ConfigurationError, RegsvcError
from regsvc.security.key_lives import ACCESS_TOKEN_LIFE, LEEWAY

MAX_TOKEN_BYTES = 4096
_ALGORITHM = "EdDSA"
_TYPE = "at+jwt"
_HEADER = {"alg", "kid", "typ"}
_INSTANTS = ("iat", "nbf", "exp")
# Exactly this pattern, since base64 decoders tolerate padding. A signature of 64 bytes has 86 characters, and the
# last one only two bits of it: of each signature one spelling is accepted.
_COMPACT = re.compile(r"(([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+))\.([A-Za-z0-9_-]{85}[AQgw])")


class AccessTokenInvalidError(RegsvcError):
    """The access token is missing, malformed, expired or not ours."""

    code = "access_token_invalid"


class UnknownKeyError(AccessTokenInvalidError):
    """The access token is missing, malformed, expired or not ours."""  # clients do not learn the difference


class SealError(ConfigurationError):
    """The signing keys in this database were sealed with another REGSVC_SECRET_KEY."""

    code = "signing_keys_sealed"


@dataclass(frozen=True)
class AccessToken:
    """The claims of a verified access token."""

    user_id: UUID
    session_id: UUID
    role: str


@dataclass(frozen=True, repr=False)
class KeyRing:
    """The signing keys at one moment.

    Args:
        issuer: the `iss` and `aud` of every token: the service's public URL.
        signer: the `kid` that signs new tokens.
        private: the signer's private key.
        public: keys for verification, by `kid`; retired keys stay until their last token has expired.
    """

    issuer: str
    signer: str
    private: Ed25519PrivateKey
    public: Mapping[str, Ed25519PublicKey]

    def sign(self, token: AccessToken, *, now: datetime | None = None) -> str:
        """Return a signed access token that is valid for `ACCESS_TOKEN_LIFE`."""
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
            UnknownKeyError, AccessTokenInvalidError: as for `read`.
        """
        return self.read(text)[0]

    def read(self, text: str) -> tuple[AccessToken, float]:
        """Return the claims of an access token, and the time at which it expires, in seconds since 1970.

        Each part is read once, and the claims only after their signature is known to be ours.

        Raises:
            UnknownKeyError: none of these keys signed it, but a newer one may have.
            AccessTokenInvalidError: the token is invalid; the cause says why, which clients do not learn.
        """
        parts = _COMPACT.fullmatch(text) if len(text) <= MAX_TOKEN_BYTES else None
        if parts is None:
            raise AccessTokenInvalidError
        signed, header, payload, signature = parts.groups()
        try:
            key = self.public.get(_read_kid(header))
            if key is None:
                raise UnknownKeyError
            key.verify(_decode(signature), signed.encode("ascii"))
            claims = json.loads(_decode(payload))
            return _read_claims(claims, self.issuer), _check_instants(claims)
        except (InvalidSignature, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
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


def _decode(segment: str) -> bytes:
    """Return the bytes of a segment, whose characters were checked."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


@lru_cache(maxsize=16)
def _read_kid(segment: str) -> str:
    """Return the key that a token's header names. The headers of all tokens of a key are alike.

    Raises:
        ValueError, TypeError, RecursionError: the header is not one of ours (RFC 8725 sections 3.1 and 3.11).
    """
    header = json.loads(_decode(segment))
    if not isinstance(header, dict) or header.keys() != _HEADER:
        raise ValueError("not the members of our header")
    kid = header["kid"]
    if (header["alg"], header["typ"]) != (_ALGORITHM, _TYPE) or not isinstance(kid, str):
        raise ValueError("not an access token of ours")
    return kid


def _check_instants(claims: Mapping[str, object]) -> float:
    """Return the time at which a token expires, the leeway for other clocks included.

    Raises:
        ValueError: an instant has the wrong type, or the token has expired or is not valid yet.
    """
    issued, begins, ends = (claims[name] for name in _INSTANTS)
    if type(issued) is not int or type(begins) is not int or type(ends) is not int:
        raise ValueError("not an instant")
    now, leeway = time.time(), LEEWAY.total_seconds()
    if max(issued, begins) > now + leeway:
        raise ValueError("not valid yet")
    until = ends + leeway
    if until <= now:
        raise ValueError("expired")
    return until


def _read_claims(claims: Mapping[str, object], issuer: str) -> AccessToken:
    """Return the claims of a token whose signature is valid.

    Raises:
        ValueError: a claim has the wrong type, or the token is not of and for this service.
    """
    if (claims["iss"], claims["aud"]) != (issuer, issuer):
        raise ValueError("not of or for this service")
    user_id, session_id, role = claims["sub"], claims["sid"], claims["role"]
    texts = (user_id, session_id, role, claims["jti"])
    if not all(isinstance(text, str) and text for text in texts):
        raise ValueError("not a text")
    token = AccessToken(UUID(str(user_id)), UUID(str(session_id)), str(role))
    if (str(token.user_id), str(token.session_id)) != (user_id, session_id):
        raise ValueError("not an id as we write it")
    return token
