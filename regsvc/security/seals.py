"""Secrets at rest, sealed with a key derived from the service's secret, so that a database dump reveals none."""

from __future__ import annotations

import secrets as random

from regsvc.errors import RegsvcError
from regsvc.security.tokens import Secrets

_NONCE_BYTES = 12


class UnsealError(RegsvcError):
    """A secret in this database was sealed with another REGSVC_SECRET_KEY."""


def seal(secrets: Secrets, label: str, plain: bytes, *, bound: bytes) -> bytes:
    """Encrypt and authenticate a secret (AES-256-GCM, NIST SP 800-38D) with the key of one use.

    Args:
        secrets: keys are derived from them.
        label: name of the use.
        plain: the secret to seal.
        bound: identity of its owner; a seal that is moved elsewhere does not open.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - 6 MB, and most workers seal nothing

    nonce = random.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(secrets.key(label)).encrypt(nonce, plain, bound)


def unseal(secrets: Secrets, label: str, sealed: bytes, *, bound: bytes) -> bytes:
    """Return a sealed secret, also if the previous key sealed it.

    Raises:
        UnsealError: it was sealed with another key, for another use, or for another owner.
    """
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    nonce, encrypted = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    for key in secrets.keys(label):
        try:
            return AESGCM(key).decrypt(nonce, encrypted, bound)
        except (InvalidTag, ValueError):  # ValueError: too short for a seal
            continue
    raise UnsealError


def reseal(secrets: Secrets, label: str, sealed: bytes, *, bound: bytes) -> bytes | None:
    """Return a new seal if the previous key sealed the secret; None if the current key opens it.

    Raises:
        UnsealError: neither key opens it.
    """
    try:
        unseal(Secrets(secrets.current), label, sealed, bound=bound)
    except UnsealError:
        return seal(secrets, label, unseal(secrets, label, sealed, bound=bound), bound=bound)
    return None
