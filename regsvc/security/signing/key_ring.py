"""The signing keys at one moment.

Several keys at a time, each with a `kid` and an algorithm. The private halves are sealed at rest with a key derived
from the service's secret; the public halves are served at `/.well-known/jwks.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import jwt
from cryptography.exceptions import InvalidSignature

from regsvc.security.signing.access_token import (
    COMPACT,
    MAX_TOKEN_BYTES,
    TYPE,
    AccessToken,
    AccessTokenInvalidError,
    UnknownKeyError,
    check_instants,
    decode,
    read_claims,
    read_header,
)
from regsvc.security.signing.algorithms import PrivateKey, PublicKey
from regsvc.security.signing.key_lives import ACCESS_TOKEN_LIFE


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
    private: PrivateKey
    public: Mapping[str, PublicKey]

    def sign(self, token: AccessToken, *, now: datetime | None = None) -> str:
        """Return a signed access token that is valid for `ACCESS_TOKEN_LIFE`."""
        issued = now or datetime.now(UTC)
        claims: dict[str, object] = {
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
        if token.amr:
            claims |= {"amr": list(token.amr), "auth_time": token.auth_time}
        headers = {"kid": self.signer, "typ": TYPE}
        return jwt.encode(claims, self.private.key, algorithm=self.private.public.algorithm, headers=headers)

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
        parts = COMPACT.fullmatch(text) if len(text) <= MAX_TOKEN_BYTES else None
        if parts is None:
            raise AccessTokenInvalidError
        signed, header, payload, signature = parts.groups()
        try:
            key = self._find_key(header)
            key.verify(decode(signature), signed.encode("ascii"))
            claims = json.loads(decode(payload))
            return read_claims(claims, self.issuer), check_instants(claims)
        except (InvalidSignature, KeyError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise AccessTokenInvalidError from error

    def _find_key(self, header: str) -> PublicKey:
        kid, algorithm = read_header(header)
        key = self.public.get(kid)
        if key is None:
            raise UnknownKeyError
        if algorithm != key.algorithm:
            raise ValueError("not the algorithm of this key")
        return key

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the public halves as a JWK Set (RFC 7517 section 5)."""
        return {
            "keys": [
                {**key.as_jwk(), "kid": kid, "alg": key.algorithm, "use": "sig"}
                for kid, key in self.public.items()
            ]
        }
