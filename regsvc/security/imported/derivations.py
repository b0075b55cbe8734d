"""What hashes of other systems are derived by. All comparisons take constant time."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Literal, TypeAlias

import bcrypt

Digest: TypeAlias = Literal["sha1", "sha256", "sha512"]
Argon2Kind: TypeAlias = Literal["i", "d", "id"]

SHORTEST_ARGON2_SALT = 8  # bytes (RFC 9106 section 3.1)
SHORTEST_ARGON2_HASH = 4  # bytes
_BCRYPT_BYTES = 72  # bcrypt ignores the rest of a password


def matches_pbkdf2(password: bytes, digest: Digest, iterations: int, salt: bytes, expected: bytes) -> bool:
    """Return whether PBKDF2 with HMAC (RFC 8018 section 5.2) makes this key of a password."""
    return hmac.compare_digest(
        hashlib.pbkdf2_hmac(digest, password, salt, iterations, len(expected)), expected
    )


def matches_argon2(
    password: bytes, *, kind: Argon2Kind, memory: int, passes: int, lanes: int, salt: bytes, expected: bytes
) -> bool:
    """Return whether Argon2 (RFC 9106) makes this tag of a password.

    Args:
        password: in UTF-8.
        kind: the variant.
        memory: in KiB.
        passes: over the memory.
        lanes: that could be computed side by side.
        salt: of the hash.
        expected: the tag.
    """
    from cryptography.hazmat.primitives.kdf import argon2  # noqa: PLC0415 - 8 MB that few processes need

    derive: Any = getattr(argon2, f"Argon2{kind}")
    made = derive(salt=salt, length=len(expected), iterations=passes, lanes=lanes, memory_cost=memory)
    tag: bytes = made.derive(password)
    return hmac.compare_digest(tag, expected)


def matches_scrypt(password: bytes, *, n: int, r: int, p: int, salt: bytes, expected: bytes) -> bool:
    """Return whether scrypt (RFC 7914) makes this key of a password."""
    made = hashlib.scrypt(
        password, salt=salt, n=n, r=r, p=p, maxmem=_scrypt_memory(n, r, p), dklen=len(expected)
    )
    return hmac.compare_digest(made, expected)


def matches_firebase(password: bytes, *, n: int, r: int, salt: bytes, expected: bytes, key: bytes) -> bool:
    """Return whether Firebase's hash of a password is this: the project's key, encrypted with what scrypt makes.

    Args:
        password: in UTF-8.
        n: cost of scrypt.
        r: its block size.
        salt: the user's, followed by the project's separator.
        expected: the hash.
        key: the project's signer key.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415 - likewise

    derived = hashlib.scrypt(password, salt=salt, n=n, r=r, p=1, maxmem=_scrypt_memory(n, r, 1), dklen=32)
    encryptor = Cipher(algorithms.AES(derived), modes.CTR(bytes(16))).encryptor()
    return hmac.compare_digest(encryptor.update(key) + encryptor.finalize(), expected)


def matches_bcrypt(password: bytes, stored: bytes, *, hashed: bool) -> bool:
    """Return whether bcrypt makes this string of a password, or of the hexadecimal SHA-256 of it."""
    if hashed:
        password = hashlib.sha256(password).hexdigest().encode()
    return bcrypt.checkpw(password[:_BCRYPT_BYTES], stored)


def _scrypt_memory(n: int, r: int, p: int) -> int:
    return 128 * r * (n + p + 2) + 1_048_576
