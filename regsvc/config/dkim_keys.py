"""Read the private keys that sign mails by DKIM (RFC 6376, RFC 8463)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Literal, TypeAlias

Algorithm: TypeAlias = Literal["rsa-sha256", "ed25519-sha256"]

LEAST_BITS: Final = 2048
"""Bits of an RSA key at least: RFC 8301, 3.2, asks signers for so many."""
MAX_KEYS: Final = 2
_SELECTOR: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9_-]+)*")
_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?-----END [A-Z0-9 ]+-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Key:
    """A private key, with the name of its public half in the DNS.

    Args:
        selector: the public key is at `selector._domainkey.domain`.
        algorithm: of the signature.
        sign: signs octets: the hashed headers.
        public: the public key, as in the record's `p=`.
    """

    selector: str
    algorithm: Algorithm
    sign: Callable[[bytes], bytes]
    public: str

    @property
    def record(self) -> str:
        """Return the TXT record to publish (RFC 6376, 3.6.1; RFC 8463, 4.2)."""
        return f"v=DKIM1; k={self.algorithm.partition('-')[0]}; p={self.public}"


def load_keys(pem: str, selectors: str) -> tuple[Key, ...]:
    """Return the keys of a setting.

    Args:
        pem: one or two private keys in PEM, RSA of 2048 bits or more, or Ed25519.
        selectors: as many names, separated by white space.

    Raises:
        ValueError: what is wrong, without any part of a key, to be appended to the name of the setting.
    """
    blocks, names = _PEM.findall(pem), selectors.split()
    if not blocks:
        raise ValueError("has no private key in PEM")
    if len(blocks) > MAX_KEYS:
        raise ValueError(f"has more than {MAX_KEYS} keys")
    if len(names) != len(blocks) or len(set(names)) != len(names):
        raise ValueError("needs one name in REGSVC_DKIM_SELECTOR for each key, all different")
    for name in names:
        if not _SELECTOR.fullmatch(name):
            raise ValueError("needs names of letters, digits and hyphens in REGSVC_DKIM_SELECTOR")
    return tuple(_load_key(block, name) for block, name in zip(blocks, names, strict=True))


def _load_key(block: str, selector: str) -> Key:
    # Imported here, so that a process that signs nothing does not load it.
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(block.encode(), password=None)
    except Exception:  # noqa: BLE001 - its errors are of many classes, and may quote the key
        raise ValueError("has a key that cannot be read: use PEM without a passphrase") from None
    encoding, form = serialization.Encoding, serialization.PublicFormat
    if isinstance(key, ed25519.Ed25519PrivateKey):
        own = key
        raw = own.public_key().public_bytes(encoding.Raw, form.Raw)
        # The algorithm signs the hash of the headers (RFC 8463, 3).
        return Key(
            selector,
            "ed25519-sha256",
            lambda octets: own.sign(sha256(octets).digest()),
            base64.b64encode(raw).decode(),
        )
    if isinstance(key, rsa.RSAPrivateKey):
        if key.key_size < LEAST_BITS:
            raise ValueError(f"has an RSA key of fewer than {LEAST_BITS} bits")
        signing = key
        der = signing.public_key().public_bytes(encoding.DER, form.SubjectPublicKeyInfo)
        return Key(
            selector,
            "rsa-sha256",
            lambda octets: signing.sign(octets, padding.PKCS1v15(), hashes.SHA256()),
            base64.b64encode(der).decode(),
        )
    raise ValueError("has a key that is neither RSA nor Ed25519")
