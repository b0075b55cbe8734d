"""Signing keys and the access tokens that they sign.

Ed25519 (RFC 8037), several keys at a time, each with a `kid`. The private halves are sealed at rest with a key derived
from the service's secret; the public halves are served at `/.well-known/jwks.json`. Access tokens follow RFC 9068
(`typ: at+jwt`), and are checked against one algorithm and a fixed set of claims (RFC 8725).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from regsvc.errors import ConfigurationError, RegsvcError
from regsvc.security.key_lives import ACCESS_TOKEN_LIFE, LEEWAY

MAX_TOKEN_BYTES = 4096
_ALGORITHM = "EdDSA"
_TYPE = "at+jwt"
_REQUIRED = ["iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "role"]
_INSTANTS = ("iat", "nbf", "exp")
# Exactly this pattern, since base64 decoders tolerate padding. A signature of 64 bytes has 86 characters.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")


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
            UnknownKeyError: none of these keys signed it, but a newer one may have.
            AccessTokenInvalidError: the token is invalid; the cause says why, which clients do not learn.
        """
        if len(text) > MAX_TOKEN_BYTES or not _COMPACT.fullmatch(text):
            raise AccessTokenInvalidError
        try:
            header = jwt.get_unverified_header(text)
            kid = header.get("kid")
            if set(header) != {"alg", "kid", "typ"} or header["typ"] != _TYPE or not isinstance(kid, str):
                raise AccessTokenInvalidError
            if kid not in self.public:
                raise UnknownKeyError
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
    """Return the claims of a token whose signature is valid. Check their types, which the library does not.

    Raises:
        ValueError: a claim has the wrong type.
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
