"""One rule for names, whichever way they come in."""

# ruff: noqa: RUF001 - names of people

from __future__ import annotations

import pytest

from regsvc.accounts.name import NameInvalidError, check_line, check_name


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "too_short"),
        ("  \u3000", "too_short"),
        ("\u200b\u200d", "too_short"),
        ("x" * 201, "too_long"),
        ("Ann\nBob", "invalid_characters"),
        ("Ann\u2028Bob", "invalid_characters"),
        ("\x1b[31mAnn", "invalid_characters"),
        ("Ann\x00", "invalid_characters"),
        *((f"Ann{char}Bob", "invalid_characters") for char in "\u202a\u202b\u202c\u202d\u202e"),
        *((f"Ann{char}Bob", "invalid_characters") for char in "\u2066\u2067\u2068\u2069"),
    ],
    ids=ascii,
)
def test_what_is_no_name_is_refused(name: str, code: str) -> None:
    with pytest.raises(NameInvalidError) as caught:
        check_name(name)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "name",
    [
        "A",
        "Karl Strauß",
        "İpek",
        "María-José O’Neill, Jr.",
        "علی\u200cرضا",
        "ක්\u200dෂ",
        "👩\u200d💻",
        "\u200fשרה\u200f",
        "x" * 200,
    ],
    ids=ascii,
)
def test_names_of_people_are_taken_as_they_are(name: str) -> None:
    """Joiners and marks of direction belong to some scripts."""
    assert check_name(f" {name} ".strip()) == name


def test_a_line_to_search_for_may_be_longer() -> None:
    assert check_line("x" * 320) == "x" * 320
