"""Secrets at rest: sealed with a key of the service's secret, so that a dump of the database shows nobody anything."""

from __future__ import annotations

import secrets as random

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from regsvc.errors import RegsvcError
from regsvc.security.tokens import Secrets

_NONCE_BYTES = 12


class UnsealError(RegsvcError):
    """REGSVC_SECRET_KEY does not open what is sealed in this database: it was sealed with another one."""


def seal(secrets: Secrets, label: str, plain: bytes, *, bound: bytes) -> bytes:
    """Return something encrypted and authenticated (AES-256-GCM, NIST SP 800-38D) with the key of one use.

    Args:
        secrets: what the key derives from.
        label: of the use.
        plain: what is sealed.
        bound: what it belongs to; moved elsewhere it does not open.
    """
    nonce = random.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(secrets.key(label)).encrypt(nonce, plain, bound)


def unseal(secrets: Secrets, label: str, sealed: bytes, *, bound: bytes) -> bytes:
    """Return what was sealed, also under the secret before this one.

    Raises:
        UnsealError: it was sealed with another secret, for another use, or bound to something else.
    """
    nonce, encrypted = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    for key in secrets.keys(label):
        try:
            return AESGCM(key).decrypt(nonce, encrypted, bound)
        except (InvalidTag, ValueError):  # the second: it is too short to be anything of ours
            continue
    raise UnsealError


def reseal(secrets: Secrets, label: str, sealed: bytes, *, bound: bytes) -> bytes | None:
    """Return what the secret before this one sealed, sealed anew; None: the current one opens it already.

    Raises:
        UnsealError: neither of them opens it.
    """
    try:
        unseal(Secrets(secrets.current), label, sealed, bound=bound)
    except UnsealError:
        return seal(secrets, label, unseal(secrets, label, sealed, bound=bound), bound=bound)
    return None
