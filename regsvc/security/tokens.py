"""Tokens derived from the service's secret: link tokens, codes, handles, refresh tokens.

None of them is stored. A token is the identity of a row with a MAC over it, so that a dump of the database, the queue
or a log gives access to nothing. Every use has its own key (HKDF, RFC 5869, one label each), and every MAC covers its
parts with their lengths, so that no two inputs give the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

CODE_DIGITS = 6
_MAC_BYTES = 32
_ID_BYTES = 16
_NUMBER_BYTES = 4


@lru_cache(maxsize=64)
def _derive(secret: bytes, label: str) -> bytes:
    """Return the 32-byte key of one use of a secret (HKDF-SHA256, RFC 5869).

    One block of output, so the expansion is one MAC. A library for it would weigh 8 MB in each worker.
    """
    extracted = hmac.digest(bytes(32), secret, "sha256")  # section 2.2, without a salt
    return hmac.digest(extracted, f"regsvc/{label}".encode() + b"\x01", "sha256")  # section 2.3, T(1)


@dataclass(frozen=True, repr=False)
class Secrets:
    """The service's secret and the previous one.

    Args:
        current: at least 32 bytes; creates and verifies.
        previous: only verifies, so that links and handles survive a rotation.
    """

    current: bytes
    previous: bytes | None = None

    def key(self, label: str) -> bytes:
        """Return the current 32-byte key of one use."""
        return _derive(self.current, label)

    def keys(self, label: str) -> Iterator[bytes]:
        """Yield the keys for verification, the current one first."""
        yield _derive(self.current, label)
        if self.previous is not None:
            yield _derive(self.previous, label)

    @property
    def fingerprint(self) -> str:
        """The name of the current secret, kept beside what depends on it, so that a rotation finds the rest."""
        return self.key("key-name").hex()[:8]

    def peppers(self) -> tuple[str, dict[str, bytes]]:
        """Return the version of the pepper for new password hashes, and all peppers by version.

        The version is a fingerprint of the secret, so that a rotation needs no stored counter.
        """
        known = [self.current] + ([self.previous] if self.previous is not None else [])
        versions = {_derive(s, "pepper-version").hex()[:8]: _derive(s, "pepper") for s in known}
        return next(iter(versions)), versions


def _mac(key: bytes, parts: Sequence[bytes]) -> bytes:
    return hmac.digest(key, b"".join(len(part).to_bytes(4, "big") + part for part in parts), "sha256")


def _verify(keys: Iterator[bytes], parts: Sequence[bytes], mac: bytes) -> bool:
    return any(hmac.compare_digest(_mac(key, parts), mac) for key in keys)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str, length: int) -> bytes | None:
    """Return the bytes of canonical unpadded base64url, or None: a token must have only one spelling."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == length and _encode(raw) == text else None


# Programs that make text clickable leave out a `-` or `_` at the end of a link, so every token ends in a letter.
_LINK_END = "x"


def _encode_link(raw: bytes) -> str:
    return _encode(raw) + _LINK_END


def _decode_link(text: str, length: int) -> bytes | None:
    """Return the bytes of a link's token, with or without the final letter, which older tokens lack."""
    with_end = len(text) % 4 == 1 and text.endswith(_LINK_END)  # the lengths here are multiples of three
    return _decode(text.removesuffix(_LINK_END) if with_end else text, length)


# -- the link in a confirmation mail


@dataclass(frozen=True)
class LinkToken:
    """An unverified token: the registration it claims, and its MAC."""

    registration_id: UUID
    mac: bytes

    def proves(self, secrets_: Secrets, email_key: str) -> bool:
        """Return whether the link was mailed to this address for this registration (constant time)."""
        parts = (self.registration_id.bytes, email_key.encode())
        return _verify(secrets_.keys("confirm-link"), parts, self.mac)


def mint_link_token(secrets_: Secrets, registration_id: UUID, email_key: str) -> str:
    """Return the 65 characters of a confirmation link, which become invalid when the address changes."""
    mac = _mac(secrets_.key("confirm-link"), (registration_id.bytes, email_key.encode()))
    return _encode_link(registration_id.bytes + mac)


def read_link_token(text: str) -> LinkToken | None:
    """Return the claim of a link token, or None if it is malformed."""
    raw = _decode_link(text, _ID_BYTES + _MAC_BYTES)
    return None if raw is None else LinkToken(UUID(bytes=raw[:_ID_BYTES]), raw[_ID_BYTES:])


# -- links in mails to the owner of an account


@dataclass(frozen=True)
class AccountToken:
    """An unverified token: the account or email change it claims, and its MAC."""

    id: UUID
    mac: bytes

    def proves(self, secrets_: Secrets, use: str, *bound: str) -> bool:
        """Return whether the token was made for this use, bound to these current values (constant time)."""
        return _verify(secrets_.keys(use), (self.id.bytes, *(part.encode() for part in bound)), self.mac)


def mint_account_token(secrets_: Secrets, use: str, id_: UUID, *bound: str) -> str:
    """Return the 65 characters of an account link, which become invalid when a bound value changes."""
    return _encode_link(id_.bytes + _mac(secrets_.key(use), (id_.bytes, *(part.encode() for part in bound))))


def read_account_token(text: str) -> AccountToken | None:
    """Return the claim of an account token, or None if it is malformed."""
    raw = _decode_link(text, _ID_BYTES + _MAC_BYTES)
    return None if raw is None else AccountToken(UUID(bytes=raw[:_ID_BYTES]), raw[_ID_BYTES:])


# -- the six-digit code in a mail that confirms a sign-up, or with which a user logs in


def mint_code(secrets_: Secrets, mail_id: UUID, email_key: str, use: str = "confirm-code") -> str:
    """Return a mail's six digits, the same for every attempt. They become invalid when the address changes."""
    return _code(secrets_.key(use), mail_id, email_key)


def code_matches(secrets_: Secrets, mail_ids: Sequence[UUID], email_key: str, code: str, use: str) -> bool:
    """Return whether a code belongs to one of these mails to the address. Compares all, in constant time."""
    given = code.encode("ascii", "replace")
    found = False
    for key in secrets_.keys(use):
        for mail_id in mail_ids:
            found |= hmac.compare_digest(_code(key, mail_id, email_key).encode("ascii"), given)
    return found


def _code(key: bytes, mail_id: UUID, email_key: str) -> str:
    number = int.from_bytes(_mac(key, (mail_id.bytes, email_key.encode()))[:16], "big") % 10**CODE_DIGITS
    return f"{number:0{CODE_DIGITS}d}"


# -- the mails that the legacy system requests


def mint_legacy_mail_ids(secrets_: Secrets, parts: Sequence[bytes]) -> Iterator[UUID]:
    """Yield the id of the mail that a message requests, and the id under the previous secret.

    The same message has the same id, so that it is mailed once, and the id does not reveal the message (RFC 9562,
    section 5.8).
    """
    for key in secrets_.keys("foreign-mail"):
        number = int.from_bytes(_mac(key, parts)[:_ID_BYTES], "big")
        yield UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62)


# -- the handle: only the client that signed up may watch that attempt


def mint_handle(secrets_: Secrets, registration_id: UUID) -> str:
    """Return the 43 characters that open the live status of a registration."""
    return _encode(_mac(secrets_.key("handle"), (registration_id.bytes,)))


def handle_matches(secrets_: Secrets, registration_id: UUID, handle: str) -> bool:
    """Return whether a handle belongs to this registration (constant time)."""
    raw = _decode(handle, _MAC_BYTES)
    return raw is not None and _verify(secrets_.keys("handle"), (registration_id.bytes,), raw)


# -- a browser's session: its cookie is valid as long as the session, and is not stored


@dataclass(frozen=True)
class SessionCookie:
    """The verified content of a browser's cookie.

    Args:
        session_id: id of the browser's session.
        number: number of renewals of the cookie.
    """

    session_id: UUID
    number: int = 0


def mint_session_cookie(secrets_: Secrets, cookie: SessionCookie) -> str:
    """Return the 70 characters that identify a browser's session."""
    raw = cookie.session_id.bytes + cookie.number.to_bytes(_NUMBER_BYTES, "big")
    return _encode(raw + _mac(secrets_.key("browser-session"), (raw,)))


def read_session_cookie(secrets_: Secrets, text: str) -> SessionCookie | None:
    """Return the content of a cookie, or None if it was not created here (constant time).

    Older cookies without a number have 64 characters, and count as the first of their session.
    """
    for length in (_ID_BYTES + _NUMBER_BYTES, _ID_BYTES):
        raw = _decode(text, length + _MAC_BYTES)
        if raw is not None and _verify(secrets_.keys("browser-session"), (raw[:length],), raw[length:]):
            return SessionCookie(UUID(bytes=raw[:_ID_BYTES]), int.from_bytes(raw[_ID_BYTES:length], "big"))
    return None


# -- blinded subjects: limits and schedules recognise an address without storing it


def blind(secrets_: Secrets, label: str, *parts: str | bytes) -> bytes:
    """Return 32 bytes by which the database recognises a value that it does not store.

    Unlike a hash without a key, they do not reveal an address in a dump to an attacker who tries addresses.

    Args:
        secrets_: the key is derived from the current one; after a rotation the same value has other bytes.
        label: name of the use, which has its own key.
        parts: parts of the value, the first its kind.
    """
    return blinds(secrets_, label, *parts)[0]


def blinds(secrets_: Secrets, label: str, *parts: str | bytes) -> list[bytes]:
    """Return `blind` of the current and of the previous secret, to find values recorded before a rotation."""
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    return [_mac(key, raw) for key in secrets_.keys(label)]


# -- refresh tokens: a session and a number; the session holds the valid number


@dataclass(frozen=True)
class RefreshToken:
    """The verified content of a refresh token.

    Args:
        session_id: id of its session.
        number: number of earlier tokens of that session.
    """

    session_id: UUID
    number: int


def mint_refresh_token(secrets_: Secrets, token: RefreshToken) -> str:
    """Return the 70 characters of a refresh token. Concurrent requests for the same token get the same text."""
    raw = token.session_id.bytes + token.number.to_bytes(_NUMBER_BYTES, "big")
    return _encode(raw + _mac(secrets_.key("refresh-token"), (raw,)))


def read_refresh_token(secrets_: Secrets, text: str) -> RefreshToken | None:
    """Return the content of a refresh token, or None if it was not created here (constant time)."""
    raw = _decode(text, _ID_BYTES + _NUMBER_BYTES + _MAC_BYTES)
    if raw is None or not _verify(secrets_.keys("refresh-token"), (raw[:-_MAC_BYTES],), raw[-_MAC_BYTES:]):
        return None
    return RefreshToken(UUID(bytes=raw[:_ID_BYTES]), int.from_bytes(raw[_ID_BYTES:-_MAC_BYTES], "big"))


def hash_legacy_token(token: str) -> bytes:
    """Return the 32 bytes by which the database recognises an unnumbered refresh token, from before 0013_growth.sql."""
    return hashlib.sha256(token.encode()).digest()
