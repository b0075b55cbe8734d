"""What was verified once is not verified again, for as long as it is true."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio

from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError, UnknownKeyError
from regsvc.security.signing.algorithms import ALGORITHMS, PublicKey
from regsvc.security.signing.key_lives import ACCESS_TOKEN_LIFE, LEEWAY
from regsvc.security.signing.key_ring import KeyRing
from regsvc.security.signing.key_rings import VerifiedTokens

SOMEBODY = AccessToken(uuid4(), uuid4(), "user")


class AskedKeys(Mapping[str, PublicKey]):
    """Keys that count how often one was asked for by its name, which every verification does once."""

    def __init__(self, keys: Mapping[str, PublicKey]) -> None:
        self._keys = dict(keys)
        self.asked = 0

    def __getitem__(self, kid: str) -> PublicKey:
        self.asked += 1
        return self._keys[kid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def items(self) -> object:  # type: ignore[override]
        """List the keys, which does not count."""
        return self._keys.items()


def make_ring(kid: str = "one") -> tuple[KeyRing, AskedKeys]:
    private = ALGORITHMS["EdDSA"].generate()
    keys = AskedKeys({kid: private.public})
    return KeyRing("https://accounts.example.org", kid, private, keys), keys


def trusted(ring: KeyRing, most: int = 8) -> VerifiedTokens:
    tokens = VerifiedTokens(most)
    tokens.trust(ring)
    return tokens


def test_a_token_is_verified_once_and_each_other_one_too() -> None:
    ring, keys = make_ring()
    tokens = trusted(ring)
    first, second = ring.sign(SOMEBODY), ring.sign(SOMEBODY)
    for text in (first, first, second, first, second):
        assert tokens.verify(ring, text) == SOMEBODY
    assert keys.asked == 2


def test_a_token_that_is_invalid_is_refused_every_time() -> None:
    ring, _ = make_ring()
    tokens = trusted(ring)
    good = ring.sign(SOMEBODY)
    tokens.verify(ring, good)
    bad = good[:-4] + "AAAA"
    for _ in range(2):
        with pytest.raises(AccessTokenInvalidError):
            tokens.verify(ring, bad)
    assert len(tokens) == 1


async def test_a_token_is_good_until_it_expires_and_not_after() -> None:
    ring, _ = make_ring()
    tokens = trusted(ring)
    left = timedelta(seconds=1.5)
    text = ring.sign(SOMEBODY, now=datetime.now(UTC) - ACCESS_TOKEN_LIFE - LEEWAY + left)
    until = ring.read(text)[1]
    assert tokens.verify(ring, text) == SOMEBODY
    await trio.sleep_until(trio.current_time() + until - time.time() + 0.01)
    with pytest.raises(AccessTokenInvalidError):
        tokens.verify(ring, text)


def test_a_token_of_a_withdrawn_key_is_refused() -> None:
    ring, _ = make_ring()
    tokens = trusted(ring)
    text = ring.sign(SOMEBODY)
    tokens.verify(ring, text)
    later, _ = make_ring("two")
    tokens.trust(later)
    with pytest.raises(UnknownKeyError):
        tokens.verify(later, text)


def test_a_token_is_kept_when_the_same_keys_are_read_again() -> None:
    ring, keys = make_ring()
    tokens = trusted(ring)
    text = ring.sign(SOMEBODY)
    tokens.verify(ring, text)
    tokens.trust(KeyRing(ring.issuer, ring.signer, ring.private, keys))
    tokens.verify(ring, text)
    assert keys.asked == 1


def test_tokens_are_forgotten_when_there_are_too_many() -> None:
    ring, _ = make_ring()
    tokens = trusted(ring, most=3)
    for _ in range(10):
        tokens.verify(ring, ring.sign(SOMEBODY))
    assert len(tokens) == 3
