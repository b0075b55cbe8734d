"""What an access token says, and how it is read.

Access tokens follow RFC 9068 (`typ: at+jwt`), and are checked against the algorithm of their key and a fixed set of
claims (RFC 8725).
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from regsvc.errors import ConfigurationError, RegsvcError
from regsvc.security.signing.key_lives import LEEWAY

MAX_TOKEN_BYTES = 4096
TYPE = "at+jwt"
_HEADER = {"alg", "kid", "typ"}
_INSTANTS = ("iat", "nbf", "exp")
# Exactly this pattern, since base64 decoders tolerate padding. A signature of 64 bytes has 86 characters, and the
# last one only two bits of it: of each signature one spelling is accepted.
COMPACT = re.compile(r"(([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+))\.([A-Za-z0-9_-]{85}[AQgw])")


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
    """The claims of a verified access token.

    Args:
        user_id: the user.
        session_id: of the session.
        role: of the user.
        amr: how the user authenticated (RFC 8176); empty if the token does not say.
        auth_time: when, in seconds since 1970; 0 if the token does not say.
    """

    user_id: UUID
    session_id: UUID
    role: str
    amr: tuple[str, ...] = ()
    auth_time: int = 0


def decode(segment: str) -> bytes:
    """Return the bytes of a segment, whose characters were checked."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


@lru_cache(maxsize=16)
def read_header(segment: str) -> tuple[str, str]:
    """Return the key that a token's header names, and the algorithm. The headers of all tokens of a key are alike.

    Raises:
        ValueError, TypeError, RecursionError: the header is not one of ours (RFC 8725 sections 3.1 and 3.11).
    """
    header = json.loads(decode(segment))
    if not isinstance(header, dict) or header.keys() != _HEADER:
        raise ValueError("not the members of our header")
    kid, algorithm = header["kid"], header["alg"]
    if header["typ"] != TYPE or not isinstance(kid, str) or not isinstance(algorithm, str):
        raise ValueError("not an access token of ours")
    return kid, algorithm


def check_instants(claims: Mapping[str, object]) -> float:
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


def read_claims(claims: Mapping[str, object], issuer: str) -> AccessToken:
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
    # Tokens of earlier releases lack these two (RFC 9068, section 2.2.1).
    amr, auth_time = claims.get("amr", []), claims.get("auth_time", 0)
    if not isinstance(amr, list) or not all(isinstance(each, str) for each in amr):
        raise ValueError("not a list of texts")
    if type(auth_time) is not int:
        raise ValueError("not an instant")
    token = AccessToken(UUID(str(user_id)), UUID(str(session_id)), str(role), tuple(amr), auth_time)
    if (str(token.user_id), str(token.session_id)) != (user_id, session_id):
        raise ValueError("not an id as we write it")
    return token


def read_expiry(text: str) -> int:
    """Return the `exp` of an access token that was verified before, in seconds since 1970."""
    expiry: int = json.loads(decode(text.split(".")[1]))["exp"]
    return expiry
