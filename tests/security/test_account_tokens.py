"""Links about an account: what they are bound to, and what they are not."""

from __future__ import annotations

from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from regsvc.security.tokens import AccountToken, Secrets, mint_account_token, read_account_token

OLD = Secrets(b"a secret for tests, 32 bytes long")
NEW = Secrets(b"the secret after that, 32 bytes!", previous=OLD.current)
ID = uuid4()


def mint(use: str = "reset", *bound: str, secrets: Secrets = OLD) -> AccountToken:
    token = read_account_token(mint_account_token(secrets, use, ID, *bound))
    assert token is not None
    assert token.id == ID
    return token


def test_a_token_proves_what_it_was_made_for_and_nothing_else() -> None:
    token = mint("reset", "ann", "hash")
    assert token.proves(OLD, "reset", "ann", "hash")
    for use, bound in (
        ("undo", ("ann", "hash")),
        ("reset", ("ann", "other")),
        ("reset", ("annhash",)),
        ("reset", ("an", "nhash")),
        ("reset", ("ann", "hash", "")),
        ("reset", ()),
    ):
        assert not token.proves(OLD, use, *bound)
    assert not AccountToken(uuid4(), token.mac).proves(OLD, "reset", "ann", "hash")


def test_a_token_outlives_one_change_of_the_secret() -> None:
    assert mint("reset", "ann").proves(NEW, "reset", "ann")
    assert not mint("reset", "ann", secrets=NEW).proves(OLD, "reset", "ann")


@given(st.integers(0, 8 * 48 - 1))
def test_no_bit_of_a_token_can_be_another(bit: int) -> None:
    token = mint("reset", "ann")
    raw = (int.from_bytes(token.id.bytes + token.mac, "big") ^ (1 << bit)).to_bytes(48, "big")
    forged = AccountToken(type(token.id)(bytes=raw[:16]), raw[16:])
    assert not forged.proves(OLD, "reset", "ann")


@pytest.mark.parametrize(
    "text", ["", "A", "A" * 63, "A" * 65, "A" * 63 + "=", "A" * 62 + "==", " " * 64, "ä" * 64, "A" * 63 + "+"]
)
def test_what_cannot_be_a_token_is_none(text: str) -> None:
    assert read_account_token(text) is None


@given(secret=st.binary(min_size=32, max_size=200), label=st.text(min_size=1, max_size=40))
def test_keys_are_derived_as_the_standard_says(secret: bytes, label: str) -> None:
    """HKDF-SHA256 (RFC 5869), told by a library: another key would make every token of a release before void."""
    expected = HKDF(SHA256(), 32, salt=None, info=f"regsvc/{label}".encode()).derive(secret)
    assert Secrets(secret).key(label) == expected
