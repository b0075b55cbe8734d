"""Validation of names, whatever their source."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 200  # characters

# Characters that reverse the text around a name. Those that scripts need within words (ZWJ, ZWNJ, marks) may stay.
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class NameInvalidError(ValueError):
    """The name is invalid; the text says why, `code` as a word."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def check_name(text: str) -> str:
    """Validate a name and return it without surrounding spaces.

    Raises:
        NameInvalidError: The name is empty, too long, or has control characters.
    """
    if len(text) > MAX_LENGTH:
        raise NameInvalidError("too_long", f"The name may have at most {MAX_LENGTH} characters.")
    return check_line(text)


def check_line(text: str) -> str:
    """Validate one line of plain text, such as a search, and return it without surrounding spaces.

    Raises:
        NameInvalidError: The text is empty or has control characters.
    """
    if any(char in _BIDI_CONTROLS or unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in text):
        raise NameInvalidError("invalid_characters", "The name must not contain control characters.")
    if not any(unicodedata.category(char)[0] in "LNPS" for char in text):
        raise NameInvalidError("too_short", "The name needs at least one visible character.")
    return text.strip()
