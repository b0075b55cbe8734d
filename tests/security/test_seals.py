from __future__ import annotations

import pytest

from regsvc.security.seals import UnsealError, reseal, seal, unseal
from regsvc.security.tokens import Secrets

OLD = Secrets(b"an old secret of the tests, 32 bytes")
NEW = Secrets(b"a new secret of the tests, 32 bytes!", previous=OLD.current)
OTHER = Secrets(b"another secret of the tests, 32 byte")


def test_what_is_sealed_is_opened_and_shows_nothing() -> None:
    sealed = seal(OLD, "use", b"something", bound=b"row")
    assert unseal(OLD, "use", sealed, bound=b"row") == b"something"
    assert b"something" not in sealed
    assert seal(OLD, "use", b"something", bound=b"row") != sealed


def test_what_the_secret_before_sealed_is_opened_and_nothing_is_sealed_with_it() -> None:
    assert unseal(NEW, "use", seal(OLD, "use", b"x", bound=b"row"), bound=b"row") == b"x"
    with pytest.raises(UnsealError):
        unseal(OLD, "use", seal(NEW, "use", b"x", bound=b"row"), bound=b"row")


def test_it_opens_with_its_secret_for_its_use_in_its_place_and_unchanged_alone() -> None:
    sealed = seal(OLD, "use", b"something", bound=b"row")
    for secrets, label, content, bound in (
        (OTHER, "use", sealed, b"row"),
        (OLD, "other", sealed, b"row"),
        (OLD, "use", sealed, b"other"),
        (OLD, "use", sealed[:-1] + bytes([sealed[-1] ^ 1]), b"row"),
        (OLD, "use", sealed[:20], b"row"),
        (OLD, "use", b"", b"row"),
    ):
        with pytest.raises(UnsealError):
            unseal(secrets, label, content, bound=bound)


def test_what_the_secret_before_sealed_is_sealed_anew_and_nothing_else() -> None:
    renewed = reseal(NEW, "use", seal(OLD, "use", b"x", bound=b"row"), bound=b"row")
    assert renewed is not None
    assert unseal(Secrets(NEW.current), "use", renewed, bound=b"row") == b"x"
    assert reseal(NEW, "use", renewed, bound=b"row") is None
    with pytest.raises(UnsealError):
        reseal(OTHER, "use", renewed, bound=b"row")
