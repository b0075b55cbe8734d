"""Hashes as other systems store them, and what they are derived by.

A hash keeps the spelling of the system that it came from, where that has one:

- Django: `pbkdf2_sha256$…`, `pbkdf2_sha1$…`, `argon2$argon2id$…`, `bcrypt_sha256$…`, `bcrypt$…`, `scrypt$…`
- PHC strings: `$argon2id$…`, `$argon2i$…`, `$argon2d$…`, and `$pbkdf2-sha256$i=27500$SALT$HASH` (also sha1, sha512), in
  which Keycloak's are written here
- Firebase: `$firebase-scrypt$ln=14,r=8$SEPARATOR$SALT$HASH$KEY`. KEY is the project's: without it nothing can be
  verified, and like any salt it keeps a hash in a stolen table no safer than the others.

Costs are bounded when a hash is read, so that no imported line can hold a thread for a minute.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

from regsvc.security.imported import derivations
from regsvc.security.imported.derivations import Argon2Kind, Digest

MOST_ITERATIONS = 2_000_000  # of PBKDF2, about a second of SHA-256
MOST_ARGON2_MEMORY = 262_144  # KiB
MOST_ARGON2_WORK = 1_048_576  # KiB times passes
MOST_LANES = 16
MOST_SCRYPT_MEMORY = 134_217_728  # bytes, 128 * N * r
LONGEST = 1024  # characters of a hash


@dataclass(frozen=True, repr=False)
class ImportedHash:
    """A hash of another system.

    Args:
        scheme: the name of what it is derived by, for messages.
        matches: whether a password, in UTF-8, is the one that was hashed.
    """

    scheme: str
    matches: Callable[[bytes], bool]


def read_hash(text: str) -> ImportedHash | None:
    """Return a hash of another system, or None if it is of no known scheme, malformed or too costly.

    Plain bcrypt (`$2b$…`) is not among them: it has a place among our own.
    """
    if len(text) > LONGEST or not text.isascii():
        return None
    for pattern, read in _SCHEMES:
        if match := pattern.fullmatch(text):
            try:
                return read(match)
            except (ValueError, binascii.Error):
                return None
    return None


def _read_pbkdf2_django(match: re.Match[str]) -> ImportedHash | None:
    return _pbkdf2(match["digest"], int(match["n"]), match["salt"].encode(), _decode(match["hash"]))


def _read_pbkdf2(match: re.Match[str]) -> ImportedHash | None:
    return _pbkdf2(match["digest"], int(match["n"]), _decode(match["salt"]), _decode(match["hash"]))


def _pbkdf2(digest: str, iterations: int, salt: bytes, expected: bytes) -> ImportedHash | None:
    digests: dict[str, Digest] = {"sha1": "sha1", "sha256": "sha256", "sha512": "sha512"}
    if not 1 <= iterations <= MOST_ITERATIONS or not expected:
        return None
    return ImportedHash(
        f"PBKDF2 with {digest}",
        lambda password: derivations.matches_pbkdf2(password, digests[digest], iterations, salt, expected),
    )


def _read_argon2(match: re.Match[str]) -> ImportedHash | None:
    memory, passes, lanes = int(match["m"]), int(match["t"]), int(match["p"])
    salt, expected = _decode(match["salt"]), _decode(match["hash"])
    kinds: dict[str, Argon2Kind] = {"argon2i": "i", "argon2d": "d", "argon2id": "id"}
    fits = (
        8 * lanes <= memory <= MOST_ARGON2_MEMORY
        and passes >= 1
        and memory * passes <= MOST_ARGON2_WORK
        and 1 <= lanes <= MOST_LANES
        and len(salt) >= derivations.SHORTEST_ARGON2_SALT
        and len(expected) >= derivations.SHORTEST_ARGON2_HASH
    )
    if not fits:
        return None
    return ImportedHash(
        match["kind"],
        lambda password: derivations.matches_argon2(
            password,
            kind=kinds[match["kind"]],
            memory=memory,
            passes=passes,
            lanes=lanes,
            salt=salt,
            expected=expected,
        ),
    )


def _read_scrypt_django(match: re.Match[str]) -> ImportedHash | None:
    n, r, p = int(match["n"]), int(match["r"]), int(match["p"])
    expected = _decode(match["hash"])
    if n < 2 or n & (n - 1) or not _scrypt_fits(n, r, p) or not expected:  # noqa: PLR2004 - a power of two
        return None
    return ImportedHash(
        "scrypt",
        lambda password: derivations.matches_scrypt(
            password, n=n, r=r, p=p, salt=match["salt"].encode(), expected=expected
        ),
    )


def _read_firebase(match: re.Match[str]) -> ImportedHash | None:
    separator, salt, expected, key = (_decode(match[name]) for name in ("separator", "salt", "hash", "key"))
    log_n, r = int(match["ln"]), int(match["r"])
    if not 1 <= log_n <= 20 or not _scrypt_fits(1 << log_n, r, 1) or len(key) != len(expected):  # noqa: PLR2004
        return None
    return ImportedHash(
        "Firebase's scrypt",
        lambda password: derivations.matches_firebase(
            password, n=1 << log_n, r=r, salt=salt + separator, expected=expected, key=key
        ),
    )


def _read_bcrypt_django(match: re.Match[str]) -> ImportedHash | None:
    if not _LEAST_BCRYPT_COST <= int(match["cost"]) <= _MOST_BCRYPT_COST:
        return None
    hashed = match["scheme"] == "bcrypt_sha256"
    stored = match["hash"].encode()
    return ImportedHash(
        match["scheme"], lambda password: derivations.matches_bcrypt(password, stored, hashed=hashed)
    )


def _scrypt_fits(n: int, r: int, p: int) -> bool:
    return r >= 1 and p >= 1 and 128 * n * r * p <= MOST_SCRYPT_MEMORY


def _decode(text: str) -> bytes:
    """Return the bytes of base64 of either alphabet, padded or not."""
    text = text.replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


_LEAST_BCRYPT_COST, _MOST_BCRYPT_COST = 4, 15
_B64 = r"[A-Za-z0-9+/_-]+={0,2}"
_SCHEMES: list[tuple[re.Pattern[str], Callable[[re.Match[str]], ImportedHash | None]]] = [
    (
        re.compile(
            rf"pbkdf2_(?P<digest>sha1|sha256)\$(?P<n>\d{{1,7}})\$(?P<salt>[^$]{{1,128}})\$(?P<hash>{_B64})"
        ),
        _read_pbkdf2_django,
    ),
    (
        re.compile(
            rf"\$pbkdf2-(?P<digest>sha1|sha256|sha512)\$i=(?P<n>\d{{1,7}})\$(?P<salt>{_B64})\$(?P<hash>{_B64})"
        ),
        _read_pbkdf2,
    ),
    (
        re.compile(
            r"(?:argon2)?\$?(?P<kind>argon2id|argon2i|argon2d)\$v=19\$"
            rf"m=(?P<m>\d{{1,7}}),t=(?P<t>\d{{1,5}}),p=(?P<p>\d{{1,3}})\$(?P<salt>{_B64})\$(?P<hash>{_B64})"
        ),
        _read_argon2,
    ),
    (
        re.compile(
            rf"scrypt\$(?P<n>\d{{1,7}})\$(?P<salt>[^$]{{1,128}})\$(?P<r>\d{{1,3}})\$(?P<p>\d{{1,2}})\$(?P<hash>{_B64})"
        ),
        _read_scrypt_django,
    ),
    (
        re.compile(
            r"\$firebase-scrypt\$ln=(?P<ln>\d{1,2}),r=(?P<r>\d{1,3})\$"
            rf"(?P<separator>{_B64})\$(?P<salt>{_B64})\$(?P<hash>{_B64})\$(?P<key>{_B64})"
        ),
        _read_firebase,
    ),
    (
        re.compile(
            r"(?P<scheme>bcrypt|bcrypt_sha256)\$"
            r"(?P<hash>\$2[aby]\$(?P<cost>\d{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31})"
        ),
        _read_bcrypt_django,
    ),
]
